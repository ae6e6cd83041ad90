"""Answers: one thread that batches the requests waiting for the same model.

A request is a prompt and `n` answers to it; each answer is a row of the batch. Rows leave the batch when they
end. Base models stay in memory once loaded; their adapters come and go, least recently used first.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune_assets.errors import BaseModelError
from finetune_assets.server import adapters
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.chat_encoding import ImageFeatures, PromptError, Sequence, encode_prompt
from finetune_assets.server.network import Network, common_prefix, expand_cache, load
from finetune_assets.server.sampling import TokenLogprob, choose
from finetune_assets.server.tokens import token_bytes

MAX_ROWS = 16
MAX_ADAPTERS = 8
CACHED_IMAGES = 2048
"""About 100 MB for the bundled vision model, whose image has 9 x 1280 features."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A base model, or a fine-tuned one by the folder of its trained part."""

    base: BaseModel
    adapter: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What one completion call asks for."""

    model: ModelRef
    messages: list[dict[str, Any]]
    """OpenAI's format, images as data URLs."""
    max_tokens: int | None = None
    """None: as many as the context allows."""
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class GeneratedChoice:
    """One answer."""

    text: str
    finish_reason: str
    """`stop` or `length`."""
    tokens: list[TokenLogprob]
    """Empty unless log-probabilities were asked for."""


@dataclass(frozen=True, slots=True)
class Generation:
    """All answers to one request."""

    choices: list[GeneratedChoice]
    prompt_tokens: int
    completion_tokens: int


class Engine:
    """Generates on a thread of its own; `complete` may be called from any number of others."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[GenerationRequest, Future[Generation]]] = queue.Queue()
        self._networks: dict[str, LoadedNetwork] = {}
        self._loading = threading.Lock()
        threading.Thread(target=self._run, name="generation", daemon=True).start()

    def complete(self, request: GenerationRequest) -> Generation:
        """Block until the answers are there.

        Raises:
            PromptError: the model cannot take these messages.
            BaseModelError: the model cannot be loaded.
        """
        # Here, on the caller's thread: the tower works on the next images while the language model answers.
        self._loaded(request.model.base).features.look(request.messages)
        answer: Future[Generation] = Future()
        self._waiting.put((request, answer))
        return answer.result()

    def _run(self) -> None:
        held: list[tuple[GenerationRequest, Future[Generation]]] = []
        while True:
            held += [self._waiting.get()] if not held else []
            while not self._waiting.empty():
                held.append(self._waiting.get())
            batch = _fitting(held)
            held = [item for item in held if item not in batch]
            try:
                self._answer(batch)
            except Exception as error:  # noqa: BLE001 - whoever asked gets it; the thread must live on
                for _request, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)

    def _loaded(self, base: BaseModel) -> LoadedNetwork:
        with self._loading:
            if base.name not in self._networks:
                self._networks[base.name] = LoadedNetwork(load(base))
            return self._networks[base.name]

    def _answer(self, batch: list[tuple[GenerationRequest, Future[Generation]]]) -> None:
        model = batch[0][0].model
        loaded = self._loaded(model.base)
        loaded.activate(model.adapter)
        rows: list[Row] = []
        prompts: list[tuple[GenerationRequest, Future[Generation], list[Row]]] = []
        for request, answer in batch:
            try:
                prompt = encode_prompt(loaded.network, request.messages, loaded.features)
                own = [Row(loaded.network, request, prompt, index) for index in range(request.n)]
            except PromptError as error:
                answer.set_exception(error)
                continue
            rows += own
            prompts.append((request, answer, own))
        for start in range(0, len(rows), MAX_ROWS):
            generate(loaded.network, rows[start : start + MAX_ROWS])
        for _request, answer, own in prompts:
            made = sum(len(row.made) for row in own)
            answer.set_result(Generation([row.choice() for row in own], len(own[0].prompt.ids), made))


class LoadedNetwork:
    """A base model in memory and those of its adapters used last."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.features = ImageFeatures(network, capacity=CACHED_IMAGES)
        self._untrained_projector = _projector_state(network)
        self._adapters: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def activate(self, folder: Path | None) -> None:
        """Answer as the fine-tuned model in `folder` from now on, or as the base model."""
        name = None if folder is None else folder.resolve().as_posix().replace("/", "_").replace(".", "_")
        if folder is not None and name is not None:
            self._load(name, folder)
            self._adapters.move_to_end(name)
        if self._has_adapters():
            self.network.model.base_model.set_adapter(name or [])
        projector = self._adapters[name] if name else self._untrained_projector
        if self.network.vision is not None:
            self.network.vision.projector.load_state_dict(projector)

    def _load(self, name: str, folder: Path) -> None:
        if name in self._adapters:
            return
        if not (folder / "adapter_config.json").exists():
            raise BaseModelError(f"{folder}: the fine-tuned model's files are gone")
        if self._has_adapters():
            self.network.model.load_adapter(str(folder), adapter_name=name)
        else:
            from peft import PeftModel

            self.network.model = PeftModel.from_pretrained(self.network.model, str(folder), adapter_name=name)
        adapters.load_projector(self.network, folder)
        self._adapters[name] = _projector_state(self.network)
        if len(self._adapters) > MAX_ADAPTERS:
            oldest, _ = self._adapters.popitem(last=False)
            self.network.model.delete_adapter(oldest)

    def _has_adapters(self) -> bool:
        return hasattr(self.network.model, "peft_config")


class Row:
    """One answer in the making."""

    def __init__(self, network: Network, request: GenerationRequest, prompt: Sequence, index: int) -> None:
        room = network.max_length - len(prompt.ids)
        if room < 1 or (request.max_tokens or 0) > room:
            message = (
                f"This model's maximum context length is {network.max_length} tokens. However, your messages resulted "
                f"in {len(prompt.ids)} tokens and you asked for {request.max_tokens or 1} more."
            )
            raise PromptError(message, "context_length_exceeded")
        self.network = network
        self.request = request
        self.prompt = prompt
        self.limit = request.max_tokens or room
        self.made: list[int] = []
        self.tokens: list[TokenLogprob] = []
        self.finish_reason: str | None = None
        self._bytes = b""
        self._generator = torch.Generator()
        self._generator.seed() if request.seed is None else self._generator.manual_seed(request.seed + index)

    def take(self, logits: Tensor) -> None:
        """Choose the next token from `logits` `[vocabulary]` and note whether it ends the answer."""
        token = choose(logits, self.request.temperature, self.request.top_p, self._generator)
        self.made.append(token)
        if token in self.network.end_ids:
            self.finish_reason = "stop"
            return
        if self.request.logprobs:
            self.tokens.append(_logprob(self.network.tokenizer, logits, token, self.request.top_logprobs))
        self._bytes += token_bytes(self.network.tokenizer, token)
        if any(stop in self._text() for stop in self.request.stop):
            self.finish_reason = "stop"
        elif len(self.made) >= self.limit:
            self.finish_reason = "length"

    def choice(self) -> GeneratedChoice:
        """The finished answer, cut before the first stop sequence."""
        text = self._text()
        found = [place for stop in self.request.stop if (place := text.find(stop)) >= 0]
        text = text[: min(found)] if found else text
        return GeneratedChoice(text, self.finish_reason or "stop", self.tokens)

    def _text(self) -> str:
        return self._bytes.decode("utf-8", errors="replace")


@torch.inference_mode()
def generate(network: Network, rows: list[Row]) -> None:
    """Run every row to its end.

    Prompts are padded on the left after what they share, so that all rows grow at the same position.
    """
    shortest = min(len(row.prompt.ids) for row in rows)
    shared = common_prefix([row.prompt.ids for row in rows], at_most=shortest - 1) if len(rows) > 1 else 0
    logits, cache, mask = _read_prompts(network, rows, shared)
    while True:
        for place, row in enumerate(rows):
            row.take(logits[place])
        alive = [place for place, row in enumerate(rows) if row.finish_reason is None]
        if not alive:
            return
        if len(alive) < len(rows):
            keep = torch.tensor(alive, device=network.device)
            cache.batch_select_indices(keep)
            mask, rows = mask[keep], [rows[place] for place in alive]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        newest = torch.tensor([[row.made[-1]] for row in rows], device=network.device)
        positions = mask.sum(1, keepdim=True) - 1
        out = network.decoder(
            inputs_embeds=network.embedding(newest), attention_mask=mask, position_ids=positions, past_key_values=cache
        )
        logits = network.head(out.last_hidden_state[:, -1]).float()


def _read_prompts(network: Network, rows: list[Row], shared: int) -> tuple[Tensor, Any, Tensor]:
    """Logits after each prompt `[b, vocabulary]`, the key/value cache, and its mask `[b, s]` (0 is padding)."""
    ids = [row.prompt.ids for row in rows]
    width = max(map(len, ids))
    embedded = [network.embed([row.prompt.ids], [row.prompt.images])[0] for row in rows]
    padded = torch.stack(
        [torch.cat([e[:shared], e.new_zeros(width - len(e), e.shape[1]), e[shared:]]) for e in embedded]
    )
    lengths = torch.tensor([len(row) for row in ids], device=network.device)
    column = torch.arange(width, device=network.device)
    mask = ((column < shared) | (column >= shared + width - lengths[:, None])).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = None
    if shared:
        cache = network.decoder(inputs_embeds=padded[:1, :shared], use_cache=True).past_key_values
        expand_cache(cache, len(rows))
    out = network.decoder(
        inputs_embeds=padded[:, shared:], attention_mask=mask, position_ids=positions[:, shared:],
        past_key_values=cache, use_cache=True,
    )  # fmt: skip
    return network.head(out.last_hidden_state[:, -1]).float(), out.past_key_values, mask


def _fitting(
    held: list[tuple[GenerationRequest, Future[Generation]]],
) -> list[tuple[GenerationRequest, Future[Generation]]]:
    """The oldest request and those after it for the same model, up to a full batch."""
    batch, rows = [], 0
    for item in held:
        if item[0].model == held[0][0].model and (not batch or rows + item[0].n <= MAX_ROWS):
            batch.append(item)
            rows += item[0].n
    return batch


def _logprob(tokenizer: Any, logits: Tensor, token: int, n_top: int) -> TokenLogprob:
    logprobs = logits.log_softmax(-1)
    values, ids = logprobs.topk(n_top)
    top = [_piece(tokenizer, int(i), float(v)) for i, v in zip(ids, values, strict=True)]
    text, logprob, data = _piece(tokenizer, token, float(logprobs[token]))
    return TokenLogprob(text, logprob, data, top)


def _piece(tokenizer: Any, token: int, logprob: float) -> tuple[str, float, bytes]:
    data = token_bytes(tokenizer, token)
    return data.decode("utf-8", errors="replace"), logprob, data


def _projector_state(network: Network) -> dict[str, Tensor]:
    if network.vision is None:
        return {}
    return {name: weight.clone() for name, weight in network.vision.projector.state_dict().items()}
