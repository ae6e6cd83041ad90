"""The trained part of a fine-tuned model: LoRA layers and, for the bundled vision model, the projector.

The projector begins with the last blocks of the vision tower.

On disk it is a folder in PEFT's own format (`adapter_config.json`, `adapter_model.safetensors`), which other
tools read as well, plus `projector.safetensors` where a projector was trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from finetune_assets.server.model.network import Network

LORA_RANK = 16
_PROJECTOR = "projector.safetensors"
_TOWER = "tower."

Part = Literal["lora", "projector", "tower"]
Trained = Mapping[Part, list[nn.Parameter]]
"""What training moves, by where it is: each part learns at a rate of its own."""


def add_trainable(network: Network, start_from: Path | None, *, with_images: bool) -> Trained:
    """Put fresh LoRA layers (or those of `start_from`) into the network and return what training moves.

    LoRA goes to the query and value projections, as in Hu et al. (2021), or to every linear layer of a model that
    names its projections otherwise.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    if start_from is None:
        config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, **_targets(network))
        network.model = get_peft_model(network.model, config)
    else:
        network.model = PeftModel.from_pretrained(network.model, str(start_from), is_trainable=True)
        load_projector(network, start_from)
    if network.vision is not None and with_images:
        network.vision.projector.requires_grad_(True)
    lora = [p for p in network.model.parameters() if p.requires_grad]
    seeing = list(network.vision.projector.named_parameters()) if network.vision and with_images else []
    return {
        "lora": lora,
        "projector": [p for name, p in seeing if not name.startswith(_TOWER)],
        "tower": [p for name, p in seeing if name.startswith(_TOWER)],
    }


def save(network: Network, folder: Path) -> None:
    """Write the trained part to `folder`."""
    from safetensors.torch import save_file

    network.model.save_pretrained(str(folder))
    if network.vision is not None and (weights := network.vision.projector.state_dict()):
        save_file(weights, folder / _PROJECTOR)


def load_projector(network: Network, folder: Path) -> None:
    """Give the network the projector saved in `folder`, if one is."""
    from safetensors.torch import load_file

    if network.vision is not None and (folder / _PROJECTOR).exists():
        network.vision.projector.load_state_dict(load_file(folder / _PROJECTOR, device=str(network.device)))


def _targets(network: Network) -> dict[str, Any]:
    names = dict(network.model.named_modules())
    own = next(name for name, module in names.items() if module is network.decoder)
    decoder = {name.rpartition(".")[2] for name in names if name.startswith(f"{own}.")}
    targets = ["q_proj", "v_proj"] if {"q_proj", "v_proj"} <= decoder else "all-linear"
    return {"target_modules": targets, "exclude_modules": rf"(?!{re.escape(own)}\.).*"}
