"""The first look: before a language model learns, its vision tower learns alone which answer an image has.

Through a language model that cannot read its images yet a tower learns little. Alone, with a linear layer that is
thrown away, it passes over all images four times in half the time that one epoch takes. After that it stays as it is,
and the language model learns to read it (LLaVA too trains in stages, Liu et al. 2023). Models of 281 and 409 solar
cells were right about 87.7 and 88.9 % of 179 and 298 others with it, and about 82.7 and 79.5 % without.

Only answers that many examples share can be learned so: those of a classification, not captions.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finetune_assets.server.durable import publish
from finetune_assets.server.model.adapters import Trained
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.vision import GRID, Projector, one_thread
from finetune_assets.server.training.examples import Example, batches
from finetune_assets.server.training.hyperparameters import Optimiser

_PASSES = 4
_LEAST_STEPS = 60
"""Little data is passed over more often."""
SHARED = 10
"""Examples with one image that an answer to a question needs; such must be most of the file."""
_BATCH_SIZE = 8
_SMOOTHING = 0.1
"""A tower that is sure of the images it has learned would teach the language model to trust it too much."""

Seen = tuple[Tensor, int]
"""An image's features, and the number of its answer."""


def look(
    network: Network,
    trained: Trained,
    examples: list[Example],
    multiplier: float,
    seed: int,
    folder: Path,
    note: Callable[[str], None],
) -> Trained:
    """Let the tower's last blocks learn to tell the examples' answers apart, and return what is left to train.

    Where the examples are not of that kind, that is all of `trained`. `folder` keeps the tower for a resumed job, and
    `note` is told how it goes.
    """
    projector = network.vision and network.vision.projector
    seen = labelled(examples)
    if not isinstance(projector, Projector) or not seen:
        return trained
    kept = folder / "tower.safetensors"
    if not kept.exists():
        with one_thread():
            _learn(projector, trained["tower"], seen, multiplier, seed, note)
        scratch = kept.with_suffix(".partial")
        save_file(projector.tower.state_dict(), scratch)
        publish(scratch, kept)
    projector.tower.load_state_dict(load_file(kept))
    projector.tower.requires_grad_(False)
    return {"lora": trained["lora"], "projector": trained["projector"], "tower": []}


def labelled(examples: list[Example]) -> list[Seen]:
    """Number the answers that many examples of one image share, question by question; empty if those are the fewer.

    An example's question is whatever it does not learn. One answer alone teaches nothing, so there are two at least.
    """
    kinds = [(e.ids[~e.learned].numpy().tobytes(), e.ids[e.learned].numpy().tobytes()) for e in examples]
    pictured = [(e.images[0], kind) for e, kind in zip(examples, kinds, strict=True) if len(e.images) == 1]
    shared = sorted(kind for kind, count in Counter(kind for _, kind in pictured).items() if count >= SHARED)
    answers = Counter(question for question, _ in shared)
    numbers = {kind: number for number, kind in enumerate(kind for kind in shared if answers[kind[0]] > 1)}
    seen = [(features, numbers[kind]) for features, kind in pictured if kind in numbers]
    return seen if 2 * len(seen) > len(examples) else []


def _learn(
    projector: Projector,
    tower: list[nn.Parameter],
    seen: list[Seen],
    multiplier: float,
    seed: int,
    note: Callable[[str], None],
) -> None:
    n_answers, device, width = 1 + max(number for _, number in seen), tower[0].device, projector.seen_width
    head = nn.Sequential(nn.LayerNorm(width), nn.Flatten(), nn.Linear(GRID * GRID * width, n_answers)).to(device)
    for parameter in head[2].parameters():
        nn.init.zeros_(parameter)
    moved: Trained = {"tower": tower, "projector": list(head.parameters())}
    steps = math.ceil(len(seen) / _BATCH_SIZE)
    n_passes = max(_PASSES, math.ceil(_LEAST_STEPS / steps))
    optimiser = Optimiser(moved, "first look", multiplier, n_passes * steps)
    step = 0
    for n_pass in range(1, n_passes + 1):
        right = 0
        for batch in batches(seen, _BATCH_SIZE, lambda _: 0, random.Random(f"{seed}-look-{n_pass}")):
            step += 1
            features, numbers = torch.cat([f for f, _ in batch]).to(device), torch.tensor([n for _, n in batch])
            logits = head(projector.seen(features))
            F.cross_entropy(logits, numbers.to(device), label_smoothing=_SMOOTHING).backward()
            optimiser.step(step)
            right += int((logits.argmax(-1).cpu() == numbers).sum())
        told = f"{right / len(seen):.0%} of {len(seen):,} images had the right one of {n_answers} answers"
        note(f"The vision tower learns alone, pass {n_pass} of {n_passes}: {told}")
