"""The trained part of a fine-tuned model: LoRA layers and, for the bundled vision model, the projector.

The projector begins with the last blocks of the vision tower.

On disk it is a folder in PEFT's own format (`adapter_config.json`, `adapter_model.safetensors`), which other
tools read as well, plus `projector.safetensors` where a projector was trained, and `base.json` where
the base was in 4 bit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from finetune_assets.errors import BaseModelError
from finetune_assets.server import checksums
from finetune_assets.server.model import four_bit, proof
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.own_forward import logits_at

LORA_RANK = 16
PROJECTOR = "projector.safetensors"
BASE = "base.json"
_TOWER, _DROPOUT = "tower.", ".lora_dropout."
_EXPERTS = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
_COUNTS_OF_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")

Part = Literal["lora", "projector", "tower"]
Trained = Mapping[Part, list[nn.Parameter]]
"""What training moves, by where it is: each part learns at a rate of its own."""


def add_trainable(
    network: Network,
    start_from: Path | None,
    *,
    with_images: bool,
    rank: int | None = None,
    alpha: float | None = None,
    dropout: float = 0.0,
    sight: bool = False,
) -> Trained:
    """Put fresh LoRA layers (or those of `start_from`) into the network and return what training moves.

    What `dropout` leaves out, it does only within `dropping`. With `sight` the layers through which a model that has a
    processor of its own sees get some too.
    """
    from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model

    config: Any
    if start_from is None:
        rank = rank or LORA_RANK
        given: dict[str, Any] = {"lora_alpha": alpha or 2 * rank} | _targets(network, sight=sight)
        config = LoraConfig(r=rank, lora_dropout=dropout, **given)
        network.model = get_peft_model(network.model, config)
    else:
        check_base(network, start_from)
        checksums.check(start_from)
        config = PeftConfig.from_pretrained(str(start_from))
        config.lora_dropout = dropout
        network.model = PeftModel.from_pretrained(network.model, str(start_from), is_trainable=True, config=config)
        if network.vision is not None and (state := read_projector(network, start_from)):
            network.vision.projector.load_state_dict(state)
    network.model.eval()
    if network.vision is not None and with_images:
        network.vision.projector.requires_grad_(True)
    lora = [p for p in network.model.parameters() if p.requires_grad]
    seeing = list(network.vision.projector.named_parameters()) if network.vision and with_images else []
    return {
        "lora": lora,
        "projector": [p for name, p in seeing if not name.startswith(_TOWER)],
        "tower": [p for name, p in seeing if name.startswith(_TOWER)],
    }


def seeing(network: Network) -> list[nn.Parameter]:
    """What of the trained lies outside the decoder: the layers through which a model with a processor sees."""
    inside = {id(parameter) for parameter in network.decoder.parameters()}
    return [p for p in network.model.parameters() if p.requires_grad and id(p) not in inside]


def rank_of(adapter: Path) -> int:
    """The rank of the LoRA layers saved in this folder."""
    return json.loads((adapter / "adapter_config.json").read_text())["r"]


@contextmanager
def dropping(network: Network, seed: str) -> Iterator[None]:
    """Leave out what LoRA's dropout leaves out, meanwhile: always the same for the same seed, whatever went before."""
    modules = network.model.named_modules()
    drops = [module for name, module in modules if _DROPOUT in name and isinstance(module, nn.Dropout)]
    if drops:
        torch.manual_seed(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]))
    for module in drops:
        module.train()
    try:
        yield
    finally:
        for module in drops:
            module.eval()


def save(network: Network, folder: Path) -> None:
    """Write the trained part to `folder`."""
    from safetensors.torch import save_file

    network.model.save_pretrained(str(folder))
    if network.vision is not None and (weights := network.vision.projector.state_dict()):
        save_file(weights, folder / PROJECTOR)
    if (base := network.base).four_bit:
        said = {"model": base.path, "revision": base.revision, "load_in_4bit": True}
        (folder / BASE).write_text(json.dumps(said))


def check_base(network: Network, folder: Path) -> None:
    """Refuse a base that is in 4 bit beside what was trained on one that was not, or the other way round.

    Raises:
        BaseModelError: it is; answers would be others than those that were judged.
    """
    was, name = (folder / BASE).exists(), network.base.name
    if was == network.base.four_bit:
        return
    trained, now = ("in 4 bit", "in full") if was else ("in full", "in 4 bit")
    entry = f"{{model: {network.base.path}{', load_in_4bit: true' if was else ''}}}"
    raise BaseModelError(
        f"{folder}: it was trained on {name!r} {trained}, which models.yaml now has {now}; let {name!r} be {entry} "
        "there, and give the other a name of its own"
    )


def read_projector(network: Network, folder: Path) -> dict[str, Tensor] | None:
    """Read the state of the projector saved in `folder`; None where none is, or the network has none.

    Raises:
        BaseModelError: it cannot be read, or belongs to another vision tower.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if network.vision is None or not (folder / PROJECTOR).exists():
        return None
    try:
        state = load_file(folder / PROJECTOR, device=str(network.device))
    except (OSError, SafetensorError) as error:
        raise BaseModelError(f"{folder}: the fine-tuned model cannot be read: {error}") from error
    own = {name: weight.shape for name, weight in network.vision.projector.state_dict().items()}
    if {name: weight.shape for name, weight in state.items()} != own:
        raise BaseModelError(f"{folder}: its projector is of another vision tower than this version's; train it again")
    return state


def _targets(network: Network, *, sight: bool) -> dict[str, Any]:
    """Which modules learn.

    The bundled models' query and value projections, as in Hu et al. (2021), where more was not measured to be better.
    Of others all linear layers of attention, and of the layers between unless those are mixtures of experts (Dettmers
    et al. 2023 found that all are needed to match full fine-tuning). States of hybrid models stay as they are: their
    kernels pass by what is added to a layer.
    """
    names = dict(network.model.named_modules())
    own = next(name for name, module in names.items() if module is network.decoder)
    inside = [(name.removeprefix(own), module) for name, module in names.items() if name.startswith(own)]
    linear = [(name, module) for name, module in inside if isinstance(module, nn.Linear)]
    mixture = _is_mixture(network)
    where = r"\b(self_attn|attention|attn)\." if mixture else r"\b(self_attn|attention|attn|mlp|feed_forward)\."
    # Layers of a class of their own take other shapes than LoRA does, and PEFT takes those names of a mixture's
    # attention for its experts'.
    left_out = {_leaf(name) for name, module in linear if not four_bit.is_plain(module)} | (
        _EXPERTS if mixture else set()
    )
    chosen = sorted({_leaf(name) for name, _ in linear if re.search(where, name)} - left_out)
    if network.base.bundled or not chosen:
        chosen = ["q_proj", "v_proj"] if {"q_proj", "v_proj"} <= {_leaf(name) for name, _ in linear} else "all-linear"
    if sight:
        within = [
            f"{own}.{name.removeprefix('.')}" for name, _ in linear if chosen == "all-linear" or _leaf(name) in chosen
        ]
        return {"target_modules": within + [name for name in _looking(network, own) if _leaf(name) not in left_out]}
    return {"target_modules": chosen} | ({"exclude_modules": rf"(?!{re.escape(own)}\.).*"} if own else {})


def _looking(network: Network, decoder: str) -> list[str]:
    """Names of the linear layers before the decoder that an image passes."""
    passed: list[str] = []
    linear = [
        (name, module)
        for name, module in network.model.named_modules()
        if four_bit.is_plain(module) and not name.startswith(f"{decoder}.") and module is not network.head
    ]
    hooks = [m.register_forward_pre_hook(lambda *_, name=name: passed.append(name)) for name, m in linear]
    shown = proof.pictured(network)
    with torch.no_grad():
        logits_at(network.model, torch.tensor(shown.ids), shown.extras, torch.tensor([0]))
    for hook in hooks:
        hook.remove()
    return sorted(set(passed))


def _is_mixture(network: Network) -> bool:
    config = network.model.config.get_text_config(decoder=True)
    counted = any(getattr(config, name, None) for name in _COUNTS_OF_EXPERTS)
    return counted or any(p.ndim == 3 and "expert" in name for name, p in network.decoder.named_parameters())


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
