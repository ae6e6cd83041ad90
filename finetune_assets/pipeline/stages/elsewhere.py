"""Asks what a fine-tuned model was not trained for: examples of the task's other regions, and general questions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pandas as pd
from upath import UPath

from finetune_assets.asking.predictions import Asked, ask_models
from finetune_assets.dataset.table import Table
from finetune_assets.evaluation.benchmark.forgetting import forgetting, general_questions
from finetune_assets.evaluation.benchmark.report import Forgetting
from finetune_assets.evaluation.prediction import Role
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.client import Client
from finetune_assets.results.region import Region
from finetune_assets.task import Prompt, Task
from finetune_assets.task.answers import BinaryAnswer

MAX_REGIONS = 4
"""Of so many others examples are taken; each costs a file's reading."""


def forgotten(client: Client, region: Region, fine_tuned: str, cache: AnswerCache) -> list[Forgetting]:
    """Compare the fine-tuned model with its base on `benchmark.elsewhere` questions of either kind.

    Raises:
        ProviderError: the provider does not answer, or refused every question.
    """
    n = region.task.benchmark.elsewhere
    # A batch may take a day; these few are asked at once.
    at_once = region.task.benchmark.model_copy(update={"batch": False})
    task = region.task.model_copy(update={"benchmark": at_once})
    general = task.model_copy(
        update={"prompt": Prompt(user="{question} Answer Yes or No."), "answer": BinaryAnswer(kind="binary")}
    )
    asked: list[tuple[str, Task, pd.DataFrame]] = [
        ("other regions", task, _of_other_regions(region, n)),
        ("general questions", general, general_questions().head(n)),
    ]
    found = []
    for of, how, examples in asked:
        if len(examples):
            named: dict[Role, str] = {"base": task.base_model, "fine_tuned": fine_tuned}
            models: dict[Role, Asked] = {role: Asked(model, how) for role, model in named.items()}
            answers = ask_models(client, models, examples, cache, dg.get_dagster_logger().info)
            found.append(forgetting(of, answers, how.answer))
    return [one for one in found if one]


def _of_other_regions(region: Region, n: int) -> pd.DataFrame:
    """Return about n test examples of other regions, of each as many; which ones depends on their ids alone."""
    others = sorted(_other_tables(region), key=lambda path: _drawn(f"{region.name} {path.name}"))[:MAX_REGIONS]
    parts = [Table(path).frame(split="test") for path in others] if n else []
    kept = [part.iloc[part["example_id"].map(_drawn).argsort()[: -(-n // len(parts))]] for part in parts]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()


def _other_tables(region: Region) -> Iterator[UPath]:
    """Yield the clean examples of the task's other regions; a region that its YAML no longer names is none."""
    own = region.path("filtered_qa", ".parquet")
    if region.task.regions == "discover":
        listed = own.parent.glob("*.parquet")
        tables = (path for path in listed if not path.name.endswith(".quarantine.parquet"))
    else:
        tables = (replace(region, name=name).path("filtered_qa", ".parquet") for name in region.task.regions)
    yield from (path for path in tables if path.name != own.name and path.exists())


def _drawn(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
