"""A loaded model, taken apart into what training and generation need: tokenizer, embedding, decoder, head, vision.

Taking a text model apart lets one training loop and one generation loop serve many, and allows two savings that a whole
model's `forward` does not:

- logits are computed only where they are needed (the vocabulary is most of a small model's work);
- tokens that all sequences of a batch begin with (system prompt, question) run through the decoder once,
  not once per sequence. Attention is causal, so the result is the same.

Whether the parts give what the whole gives is tried at load (see `proof`). Where they do not, and for all models that
see by a processor of their own, `whole` says so, and the model's own forward does everything (see `own_forward`).
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetune_assets.errors import UnfitModelError
from finetune_assets.server import checksums
from finetune_assets.server.base_models import VISION_MODEL, BaseModel
from finetune_assets.server.model import four_bit, horizons, proof, purpose
from finetune_assets.server.model.answer_form import AnswerForm, answer_form, ended
from finetune_assets.server.model.chat_template import ChatTemplate
from finetune_assets.server.model.control_tokens import control_tokens
from finetune_assets.server.model.front import Front, blaming_files, load_front
from finetune_assets.server.model.one_pass import OnePass
from finetune_assets.server.model.packed import Packed
from finetune_assets.server.model.precision import device_and_dtype
from finetune_assets.server.model.vision import BundledVision

_log = logging.getLogger(__name__)


@dataclass
class Network:
    """One base model in memory. `decoder` carries the LoRA layers once there are any."""

    base: BaseModel
    model: Any
    """The whole Hugging Face model; a PEFT model once it has adapters."""
    front: Front
    template: ChatTemplate
    end_ids: set[int]
    """Tokens that end an answer."""
    embedding: nn.Module
    decoder: Any
    head: Any
    vision: BundledVision | None
    """The tower of the bundled vision model; None of all others."""
    max_length: int
    """Tokens of its context."""
    form: AnswerForm = field(default_factory=AnswerForm)
    """How its template writes thoughts and calls."""
    whole: str | None = None
    """Why only the model's own forward is right; None where its parts were found to give the same."""
    shortened: str | None = None
    """Why its context ends before its files say; None where it does not."""
    one_pass: OnePass | None = None
    """Of a network in training where it was found to give the same."""
    trimmed: bool = False
    """Whether, in training, tokens that no learned one follows are left out."""
    packed: Packed | None = None
    """Of a network in training where rows without padding were found to give the same."""
    recomputes: bool = False
    """Whether layers keep nothing of a forward pass but what goes into them, and run again in the backward pass."""
    compiled: bool = False
    """Whether layers run as what PyTorch compiles of them, once for all lengths."""

    @property
    def tokenizer(self) -> Any:
        """From text to token ids."""
        return self.front.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.decoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """In which the decoder computes."""
        return next(p.dtype for p in self.decoder.parameters() if p.is_floating_point())

    @property
    def vocabulary(self) -> int:
        """How many logits the head gives; the tokenizer may know fewer tokens."""
        return len(self.head.weight)

    @cached_property
    def nameless(self) -> Tensor | None:
        """Ids `[i]` that have a logit and no token: tables are padded to round sizes. None where there are none."""
        unknown = set(range(self.vocabulary)) - set(self.tokenizer.get_vocab().values()) - self.end_ids
        return torch.tensor(sorted(unknown), device=self.device) if unknown else None

    @cached_property
    def longest_token(self) -> int:
        """Characters of the vocabulary's longest token: no text of n characters has fewer than n / this tokens."""
        return max(map(len, self.tokenizer.get_vocab()))

    def lay_out_for_serving(self) -> None:
        """Make the decoder faster on a CPU, with the same results.

        Its matrices are stored column by column, which are multiplied a quarter faster so (measured on 128 tokens: 206
        against 271 ms for those of the bundled model; training, which also multiplies by their transposes, gains
        nothing). Its norms pass over memory three times instead of seven (0.2 against 0.7 ms for 460 tokens).
        """
        if self.device.type != "cpu" or self.whole:
            return
        for module in self.decoder.modules():
            if isinstance(module, nn.Linear) and module.weight.is_floating_point():
                module.weight.data = module.weight.data.t().contiguous().t()
            elif type(module).__name__.endswith("RMSNorm"):
                _make_lean(module)

    def twin(self) -> Network:
        """Another network over the same frozen weights, before any is trained: what it learns is its own."""
        tower = self.vision.tower.parameters() if self.vision else ()
        scales = (getattr(module, "quant_state", None) for module in self.model.modules())  # of weights in 4 bit
        frozen = chain(self.model.parameters(), self.model.buffers(), tower, scales)
        kept = {id(it): it for it in frozen if it is not None}
        model, vision = copy.deepcopy((self.model, self.vision), kept)
        return replace(
            self, model=model, vision=vision, embedding=model.get_input_embeddings(), decoder=model.get_decoder(),
            head=model.get_output_embeddings(),
        )  # fmt: skip

    def recompute(self) -> None:
        """Keep nothing of a forward pass but what goes into each layer; every layer runs again in the backward pass.

        Gradients are the same, for a third more work, or half as much again where the weights are frozen.
        """
        self.recomputes = True
        self._set_layers()

    def compile_layers(self, *, compiled: bool) -> None:
        """Run layers as what PyTorch compiles of them at the next pass, or as they are.

        All layers of a kind share what is compiled. That fuses norms, activations and positions, which otherwise take
        a quarter of a GPU's time, and launches fewer kernels.
        """
        self.compiled = compiled
        self._set_layers()

    def _set_layers(self) -> None:
        from torch.utils.checkpoint import checkpoint
        from transformers.modeling_layers import GradientCheckpointingLayer

        drops = any(isinstance(module, nn.Dropout) and module.p for module in self.decoder.modules())
        for layer in self.decoder.modules():
            if not isinstance(layer, GradientCheckpointingLayer):
                continue
            vars(layer).pop("forward", None)
            forward: Any = torch.compile(layer.forward, dynamic=True) if self.compiled else layer.forward
            if self.recomputes:
                forward = partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=drops)
            if self.compiled or self.recomputes:
                layer.forward = forward

    def embed(
        self, rows: list[list[int]], images: list[list[Tensor]], projector: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Embeddings `[b, s, d]` of right-padded rows.

        Args:
            rows: token ids; a negative id is an image slot.
            images: for every row, the features `[slots, d_features]` of its images in order of their slots.
            projector: state to use in place of the projector's own.
        """
        padded = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        ids = padded.to(self.device)
        embedded = self.embedding(ids.clamp(min=0))
        shown = [features for row in images for features in row]
        if self.vision is None or not shown:
            return embedded
        features = torch.cat(shown).to(self.device)
        visual = torch.func.functional_call(self.vision.projector, projector or {}, features).to(embedded.dtype)
        return embedded.masked_scatter((ids < 0).unsqueeze(-1), visual)

    def logits(self, states: Tensor) -> Tensor:
        """Logits in float32 of last hidden states, scaled and capped as the model does itself."""
        logits = self.head(states)
        config = self.decoder.config
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        logits = logits if scale == 1 else logits * scale
        if cap := getattr(config, "final_logit_softcapping", None):
            logits = torch.tanh(logits / cap) * cap
        return logits.float()

    def states(self, embedded: Tensor, shared: int) -> Tensor:
        """Last hidden states `[b, s - shared, d]` of a batch whose rows all begin with the same `shared` tokens."""
        if not shared:
            return self.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
        if self.one_pass is not None:
            return self.one_pass.states(embedded, shared)
        prefix = self.decoder(inputs_embeds=embedded[:1, :shared], use_cache=True).past_key_values
        expand_cache(prefix, len(embedded))
        return self.decoder(inputs_embeds=embedded[:, shared:], past_key_values=prefix).last_hidden_state


@torch.inference_mode()
def _make_lean(norm: Any) -> None:
    """Replace the forward of a root-mean-square norm without gradients, unless it is one of another kind."""
    epsilon, weight = getattr(norm, "variance_epsilon", None), getattr(norm, "weight", None)
    if epsilon is None or weight is None:
        return

    def lean(states: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32)
        scale = length.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
        return (states * scale.to(states.dtype)).mul_(weight)

    probe = torch.linspace(-1, 2, 3 * weight.numel(), dtype=weight.dtype).view(3, -1)
    if torch.allclose(lean(probe), norm(probe), rtol=1e-2 if probe.itemsize == 2 else 1e-5):
        norm.forward = lean


def expand_cache(cache: Any, rows: int) -> None:
    """Let a key/value cache of one row stand for `rows` equal rows, without copying it."""
    for layer in cache.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)


def common_prefix(rows: list[list[int]], at_most: int) -> int:
    """How many leading ids all `rows` share; stops before the first image slot and at `at_most`.

    An image slot ends it because its content differs from row to row under the same id.
    """
    length = 0
    for column in zip(*rows, strict=False):
        if length == at_most or column[0] < 0 or len(set(column)) > 1:
            break
        length += 1
    return length


def load(base: BaseModel) -> Network:
    """Load `base` onto the GPU if there is one, else the CPU, frozen and in evaluation mode.

    Raises:
        UnfitModelError: this server would not train and serve it as its makers meant, or its files are not whole.
        BaseModelError: its bytes are not those that were published, or this machine could not read them.
    """
    device, dtype = device_and_dtype()
    front = load_front(base)
    model = read(base, front, device, dtype)
    checksums.check(_folder(base))
    model.to(device)
    if vision := _vision(base, model):
        vision.tower.to(device)
        vision.projector.to(device).requires_grad_(False)
    network = _taken_apart(base, model, front, vision)
    if not base.bundled:  # those are proved by the tests
        network.whole = proof.differs(network)
        if problem := proof.fails(network) or (front.processor and proof.misreads(network)):
            raise UnfitModelError(f"the base model {base.name!r} cannot be used here: {problem}")
        if end := horizons.end(network):
            network.max_length, network.shortened = end
            _log.warning("the context of %r ends at %d tokens: %s", base.name, *end)
    return network


def read(base: BaseModel, front: Front, device: torch.device, dtype: torch.dtype) -> Any:
    """The whole model as transformers load it, in 4 bit where it is to be.

    Raises:
        UnfitModelError: it cannot be in 4 bit, its files are not whole, it needs code of its own, or does not write.
        BaseModelError: this machine could not read its files.
    """
    config = _config(base, front)
    four_bit.check(base, config)
    how = four_bit.loading(base, config, lambda: _without_numbers(front, config, dtype), dtype)
    if base.four_bit:  # put into 4 bit where it is to be
        how["device_map"] = {"": device}
    with blaming_files(base):
        model, said = _kind(front).from_pretrained(
            base.path, dtype=dtype, revision=base.revision, output_loading_info=True, **how
        )
    if missing := sorted(said["missing_keys"]):  # transformers draws them at random
        told = f"its files lack {len(missing)} of its weights ({', '.join(missing[:3])}{' ...' if missing[3:] else ''})"
        raise UnfitModelError(
            f"the base model {base.name!r} cannot be used here: {told}; fetch it again, or name another"
        )
    purpose.check_alone(base, model)
    four_bit.settle(model, dtype)
    return model


def hollow(base: BaseModel) -> Network:
    """A network without weights, on the `meta` device: its shapes are known, and none of its numbers.

    Raises:
        UnfitModelError: its tokenizer or processor cannot be used, or its files are missing or broken.
    """
    front = load_front(base)
    model = _without_numbers(front, _config(base, front), device_and_dtype()[1])
    if base.four_bit:
        four_bit.hollow(model)
    return _taken_apart(base, model, front, _vision(base, model))


def _config(base: BaseModel, front: Front) -> Any:
    """What its files say of its shape.

    Raises:
        UnfitModelError: nothing that transformers itself knows, or nothing that writes text.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

    with blaming_files(base):
        stored, _ = PreTrainedConfig.get_config_dict(base.path, revision=base.revision)
        if "auto_map" in stored and stored.get("model_type") not in CONFIG_MAPPING:
            raise UnfitModelError(
                f"the base model {base.name!r} needs code of its own (its auto_map), which is never run here; "
                "name a model of a kind that transformers itself has"
            )
        config = AutoConfig.from_pretrained(base.path, revision=base.revision)
        purpose.check(base, config, sees=front.processor is not None)
    if way := _unknown_packing(config):
        raise UnfitModelError(
            f"the base model {base.name!r} holds its weights as {way!r} packs them, which transformers cannot read; "
            "name the model as it was before"
        )
    return config


def _unknown_packing(config: Any) -> str | None:
    """How weights are quantised that transformers would take for plain numbers, with a warning; None of others."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    said = getattr(config, "quantization_config", None)
    if not isinstance(said, dict) or said.get("load_in_8bit") or said.get("load_in_4bit"):
        return None
    way = said.get("quant_method")
    return None if way is None or way in AUTO_QUANTIZATION_CONFIG_MAPPING else str(way)


def _without_numbers(front: Front, config: Any, dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        return _kind(front).from_config(config, dtype=dtype)


def _kind(front: Front) -> Any:
    import transformers

    return transformers.AutoModelForImageTextToText if front.processor else transformers.AutoModelForCausalLM


def _vision(base: BaseModel, model: Any) -> BundledVision | None:
    return BundledVision(model.config.hidden_size) if base.name == VISION_MODEL else None


def _taken_apart(base: BaseModel, model: Any, front: Front, vision: BundledVision | None) -> Network:
    model.eval().requires_grad_(False)
    config = model.config.get_text_config(decoder=True)
    template = ChatTemplate.of(
        front.renderer, base.name, vision.marker if vision else "", sees=front.processor is not None
    )
    form, end_ids = ended(
        answer_form(template), control_tokens(front.tokenizer), _end_ids(model, front, template)
    )  # fmt: skip
    model.generation_config = _choosing_nothing(model.generation_config)
    return Network(
        base, model, front, template, end_ids, model.get_input_embeddings(), model.get_decoder(),
        model.get_output_embeddings(), vision, getattr(config, "max_position_embeddings", 4096), form,
    )  # fmt: skip


def _choosing_nothing(made: Any) -> Any:
    """What `generate` is to know of a model: its control tokens, and no way of choosing among others.

    Beams, penalties and lengths are no part of what weights mean; requests say how tokens are chosen. And a cache of
    the makers' choice has no room for an answer of unknown length.
    """
    from transformers import GenerationConfig

    said = {name: getattr(made, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(**said)


def _folder(base: BaseModel) -> Path:
    """Where its files lie, those of a model from the hub once they have come."""
    if Path(base.path).is_dir():
        return Path(base.path)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base.path, "config.json", revision=base.revision)
    return Path(found).parent if isinstance(found, str) else Path(base.path)


def _end_ids(model: Any, front: Front, template: ChatTemplate) -> set[int]:
    """What its makers say ends an answer, in any of their files, and what their template puts behind one."""
    said = [front.tokenizer.eos_token_id]
    inner = model.config.get_text_config(decoder=True)
    configs = [model.config if getattr(model.config, "eos_token_id", None) is not None else inner]
    # Made up from the text model's defaults where there is no such file.
    configs += [] if model.generation_config._from_model_config else [model.generation_config]
    for config in configs:
        ends = getattr(config, "eos_token_id", None)
        said += ends if isinstance(ends, list) else [ends]
    behind = front.tokenizer(template.around()[1].lstrip(), add_special_tokens=False).input_ids[:1]
    said += [token for token in behind if token in front.tokenizer.added_tokens_decoder]
    return {token for token in said if token is not None}
