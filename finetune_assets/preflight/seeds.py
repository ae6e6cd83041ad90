"""How much of a split is luck: with few groups most seeds give some split too little, and nobody would know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from finetune_assets.dataset import splits
from finetune_assets.pipeline.checks import data_checks
from finetune_assets.pipeline.shown import data_views
from finetune_assets.preflight.finding import Finding
from finetune_assets.task import SPLITS, Split, Task

N_SEEDS = 200
MAX_GROUPS = 500
"""With more, every seed gives about the same."""


def first(task: Task, regions: Iterable[Sequence[tuple[str, str]]]) -> int | None:
    """Return a seed that gives every split of every region enough: the task's own, else the first; None without one.

    Args:
        task: Whose sampling it is.
        regions: Of each region the group and the answer of every example.
    """
    words = data_views.answers(task.answer)
    codes = {word: code for code, word in enumerate(words)}
    read = []
    for examples in regions:
        names, of_row = np.unique(np.array([group for group, _ in examples], object), return_inverse=True)
        read.append((names, of_row, np.array([codes.get(answer, len(words)) for _, answer in examples], np.int16)))
    wanted = [task.sampling.seed, *range(N_SEEDS)]
    return next((seed for seed in wanted if all(_suffices(task, seed, *region) for region in read)), None)


def findings(what: str, task: Task, groups: Sequence[str], answers: Sequence[str], passed: bool) -> Iterator[Finding]:
    """Say how many seeds divide a region so that every split suffices, where these are few.

    Args:
        what: The region.
        task: Whose sampling it is.
        groups: Group of each example without a problem, [n].
        answers: Its answer; "" where answers are no words, [n].
        passed: Whether the task's own seed is one of them.
    """
    names, of_row = np.unique(np.array(groups, object), return_inverse=True)
    words = data_views.answers(task.answer)
    if not 1 < len(names) <= MAX_GROUPS or set(words) - set(answers):
        return
    codes = {word: code for code, word in enumerate(words)}
    labels = np.array([codes.get(answer, len(words)) for answer in answers], np.int16)
    if not passed and _suffices(task, task.sampling.seed, names, of_row, labels):
        return  # not the draw is to blame, but what was set aside after it
    good = [seed for seed in range(N_SEEDS) if _suffices(task, seed, names, of_row, labels)]
    if passed and len(good) > N_SEEDS / 2:
        return
    share = f"of {N_SEEDS} seeds {len(good)} ({len(good) / N_SEEDS:.1%})"
    luck = f"{share} divide its {len(names)} groups so that every split has enough"
    if not good:
        yield Finding(what, "warning" if passed else "bad", f"{luck}; label more examples, in more groups")
    elif passed:
        yield Finding(what, "warning", f"{luck}, so the results hang on the draw; label examples of more groups")
    else:
        yield Finding(
            what, "warning", f"{luck}; more groups mend it, and `sampling.seed: {good[0]}` is the first to do"
        )


def _suffices(task: Task, seed: int, names: np.ndarray, of_row: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a seed gives every split what the checks ask for, before anything is filtered."""
    words = data_views.answers(task.answer)
    keys = np.array([splits.key(seed, name) for name in names], np.uint64)
    drawn = splits.assign(of_row, splits.places(keys)[of_row], task.sampling, labels, [*words, "None"])
    columns = words or [data_views.ALL]
    numbers = [
        [int(((drawn == place) & ((labels == code) | (not words))).sum()) for code in range(len(columns))]
        for place in range(len(SPLITS))
    ]
    counts = pd.DataFrame(numbers, index=pd.Index(SPLITS, name="split"), columns=pd.Index(columns))
    groups: dict[Split, int] = {split: len(np.unique(of_row[drawn == place])) for place, split in enumerate(SPLITS)}
    enough = data_checks.enough_examples("", counts, groups).passed
    return bool(enough and data_checks.both_answers("", counts, task.answer).passed)
