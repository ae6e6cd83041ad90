"""Linear layers in 4 bit (QLoRA, Dettmers et al. 2023): frozen, in blocks of NF4, with LoRA layers in full beside them.

bitsandbytes stores them, on a GPU or a CPU. 64 weights share a scale, and the scales are stored in 8 bit themselves, so
that a weight takes 4.13 bits. Each product de-quantises its matrix again. What is read otherwise than by products with
hidden states stays as it is: embeddings, norms, the head, and everything before the decoder, as what shows images.

`hollow` puts layers of the same bytes into a model that holds no numbers.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from finetune_assets.errors import UnfitModelError

if TYPE_CHECKING:
    from finetune_assets.server.base_models import BaseModel

SETTING = "load_in_4bit: true"
"""As `models.yaml` has it."""
REMEDY = "pip install 'finetune_assets[fourbit]'"
_BLOCK, _BLOCK_OF_SCALES = 64, 256
_LAYER = "Linear4bit"
_LEAST = 0.5
"""Share of a decoder's weights, embeddings left out, that must be in linear layers for 4 bit to be of use."""


def check(base: BaseModel, config: Any) -> None:
    """Refuse a model whose weights would lie in memory otherwise than they are meant to.

    Raises:
        UnfitModelError: bitsandbytes is missing, or the model's files are quantised in another way.
    """
    stored = _stored(config)
    method = stored.get("quant_method", "bitsandbytes") if stored else None
    if base.four_bit and method not in (None, "bitsandbytes"):
        raise UnfitModelError(
            f"{base.name!r} is to be loaded in 4 bit, and its files are quantised already ({method}); take its "
            "load_in_4bit away, or name the model that they were made of"
        )
    if method == "bitsandbytes" and not stored.get("load_in_4bit"):
        raise UnfitModelError(
            f"{base.name!r}: its files hold it in 8 bit, which is not served or trained here; name the model that they "
            f"were made of, and load that in 4 bit ({SETTING})"
        )
    if base.four_bit and importlib.util.find_spec("bitsandbytes") is None:
        raise UnfitModelError(f"{base.name!r} has its linear layers in 4 bit, which needs bitsandbytes: {REMEDY}")


def loading(base: BaseModel, config: Any, plain: Callable[[], Any], dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` is told of a model that is to be put into 4 bit, and nothing of all others.

    Args:
        base: what is loaded.
        config: its config, as transformers read it.
        plain: makes the same model without numbers.
        dtype: in which the products are computed.

    Raises:
        UnfitModelError: 4 bit would save little.
    """
    if not base.four_bit or _stored(config):  # as its files have it
        return {}
    from transformers import BitsAndBytesConfig

    model = plain()
    decoder, embedding = model.get_decoder(), model.get_input_embeddings()
    linear = _linear(model)
    between = sum(p.numel() for p in decoder.parameters()) - sum(p.numel() for p in embedding.parameters())
    if sum(module.weight.numel() for module in linear.values()) < _LEAST * between:
        raise UnfitModelError(
            f"{base.name!r} gains little from 4 bit: most of its weights lie in no plain linear layers, as those of "
            "many mixtures of experts; take its load_in_4bit away"
        )
    others = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name not in linear]
    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[f"^{re.escape(name)}$" for name in others],
    )  # fmt: skip
    return {"quantization_config": how}


def settle(model: Any, dtype: torch.dtype) -> None:
    """Let every layer compute in one precision, whatever its files say, and by the same kernel in training and beside.

    bitsandbytes repacks a layer for a kernel without gradients when it is first asked for none, on CPUs with products
    of bfloat16, and goes on with it in training: what is before it would not learn (0.50.2).
    """
    for layer in layers(model):
        layer.support_avx512bf16_for_cpu = False
        layer.compute_dtype, layer.compute_type_is_set = dtype, True
        layer.weight.quant_state.dtype = dtype  # of the backward pass


def layers(model: Any) -> list[Any]:
    """Its layers in 4 bit, real or hollow."""
    return [module for module in model.modules() if _in_four_bit(module)]


def is_plain(module: nn.Module) -> bool:
    """Whether it is a linear layer as all are, in 4 bit or not, and none of a class of its own."""
    return type(module) is nn.Linear or _in_four_bit(module)


def n_bytes(model: Any) -> int:
    """What the weights of a model take in memory that are frozen, the scales of layers in 4 bit included."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    return sum(parameter.nbytes for parameter in frozen) + sum(map(_scales, layers(model)))


def hollow(model: Any) -> None:
    """Let a model on the `meta` device have layers in 4 bit where a loaded one does, of the same bytes."""
    stored = _stored(model.config)
    nested = not stored or bool(stored.get("bnb_4bit_use_double_quant"))
    for name, module in _linear(model).items():
        model.set_submodule(name, Linear4bit(module, nested=nested))


class Linear4bit(nn.Linear):
    """One that holds no numbers: it takes what a layer of bitsandbytes takes, in memory and while it computes."""

    def __init__(self, plain: nn.Linear, *, nested: bool) -> None:
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None, "meta", plain.weight.dtype)
        packed = torch.empty(math.ceil(plain.weight.numel() / 2), 1, dtype=torch.uint8, device="meta")
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.nested = nested

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Linear has
        """Multiply by a matrix that is made for the moment."""
        product = _Product.apply(input, self.out_features)
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    """`[..., in]` by a matrix `[out, in]` that neither pass keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, n_out: int) -> Any:
        ctx.shape = (n_out, x.shape[-1])
        return nn.functional.linear(x, x.new_empty(ctx.shape))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        return gradient @ gradient.new_empty(ctx.shape), None


def _in_four_bit(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and type(module).__name__ == _LAYER  # PEFT has another class of that name


def _linear(model: Any) -> dict[str, nn.Linear]:
    """The layers that go into 4 bit: those of the decoder, but for what the model's files leave out."""
    from transformers.quantizers.quantizers_utils import should_convert_module

    left, inside = _stored(model.config).get("llm_int8_skip_modules"), set(map(id, model.get_decoder().modules()))
    linear = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    return {name: module for name, module in linear if id(module) in inside and should_convert_module(name, left)}


def _scales(layer: Any) -> int:
    state = getattr(layer.weight, "quant_state", None)
    if state is not None:
        return state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    blocks = math.ceil(layer.in_features * layer.out_features / _BLOCK)
    return blocks + 4 * math.ceil(blocks / _BLOCK_OF_SCALES) if layer.nested else 4 * blocks


def _stored(config: Any) -> dict[str, Any]:
    """How a model's files say that they are quantised; empty where they do not."""
    said = getattr(config, "quantization_config", None) or {}
    return said if isinstance(said, dict) else said.to_dict()
