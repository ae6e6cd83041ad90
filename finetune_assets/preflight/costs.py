"""What a region's training will cost and how long it will take here, before anything is uploaded."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice, repeat

from finetune_assets.asking import spending
from finetune_assets.dataset.table import Table, records
from finetune_assets.pipeline.checks import data_checks
from finetune_assets.preflight.finding import Finding
from finetune_assets.provider.local_server import HOME
from finetune_assets.server import base_models
from finetune_assets.task import Task
from finetune_assets.task.several_images import images_of
from finetune_assets.training_file import tokens
from finetune_assets.training_file.chat_format import to_messages

TOKENS_PER_SECOND = (300, 1_000)
"""Of a bundled model, trained on two CPU cores: the demo's 155,000 take three to five minutes."""
NAMELESS = re.compile(r"\n[a-p]{16}\Z")
"""What stands for an image in the question of an example whose image is not looked at."""
Size = tuple[int, int]


def findings(what: str, task: Task, region: str, clean: Table, n_train: int, size: Size | None) -> Iterator[Finding]:
    """Estimate a region's training: its cost where the price is known, and the time where this machine trains.

    Args:
        what: The region, as findings call it.
        task: Whose region it is.
        region: Its name.
        clean: The examples that can be used, as `examples` has them.
        n_train: How many of them train.
        size: Typical width and height of the images; None where there are none.
    """
    mean = _mean(task, clean, size)
    estimate = spending.estimate(task, round(n_train * mean), n_train)
    arms = _arms(task, clean, mean)
    if asked := [arm for arm in arms if arm.usd != 0]:
        yield Finding(what, "good", f"asking the arms of its contest is about {', '.join(map(str, asked))}")
    if task.provider == "local":
        known = base_models.bundled(task.base_model, HOME)
        takes = _minutes(estimate.tokens * estimate.epochs) if known else "a time that nobody measured"
        words = f"about {estimate.tokens:,} tokens, {estimate.epochs} epochs: on two CPU cores {takes}"
        yield Finding(what, "good", f"training is {words}; on a GPU much less")
        return
    if estimate.cost_usd is None:
        return  # that no price is known is said once for the task
    verdict = data_checks.within_budget(region, estimate.cost_usd, task.budget_of(region), arms)
    if not verdict.passed and data_checks.WITHIN_BUDGET.asked(task):
        bad = data_checks.WITHIN_BUDGET.severity(task) == "error"
        yield Finding(what, "bad" if bad else "warning", f"{verdict.description} ({estimate})")
    else:
        yield Finding(what, "good", f"training is about {estimate}")


def _arms(task: Task, clean: Table, mean: float) -> list[spending.ArmCost]:
    """Estimate what each arm of the task's contest costs."""
    if not task.benchmark.contest:
        return []
    rows = clean.frame(["split", "answer"])
    counted = [tokens.count(str(answer)) for answer in rows["answer"].head(spending.N_MEASURED)]
    length = spending.Length(mean, sum(counted) / max(len(counted), 1))
    return spending.contest(task, task.benchmark.contest, Counter(rows["split"].tolist()), length)


def _mean(task: Task, clean: Table, size: Size | None) -> float:
    """Mean tokens of a training example, counted in the first `spending.N_MEASURED` of them."""
    rows = (row for chunk in clean.chunks() for row in records(chunk.loc[chunk["split"] == "train"]))
    several = [("https://image", image.label) for image in images_of(task.source)]
    counted = []
    for row in islice(rows, spending.N_MEASURED):
        asked = NAMELESS.sub("", row["question"])
        urls = None if asked == row["question"] else several or "https://image"
        messages = to_messages(task.prompt, asked, urls, row["answer"], system=row["system"])
        counted.append(tokens.example_tokens(messages, task.base_model, repeat(size or tokens.ASSUMED_SIZE)))
    return sum(counted) / max(len(counted), 1)


def _minutes(n_tokens: int) -> str:
    slow, fast = (n_tokens / speed / 60 for speed in TOKENS_PER_SECOND)
    if slow <= 1:
        return "about a minute"
    return f"{max(round(fast), 1)} to {math.ceil(slow)} minutes"
