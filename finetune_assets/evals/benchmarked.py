"""What a region's benchmark asked and found, for whoever writes it down for another tool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from finetune_assets.asking.predictions import requests_of
from finetune_assets.dataset.table import Table
from finetune_assets.errors import RecordError
from finetune_assets.evaluation.prediction import Prediction, read_predictions
from finetune_assets.evaluation.scoring import Scoring, scoring_of
from finetune_assets.provider.client import find_provider
from finetune_assets.provider.files import content_hash
from finetune_assets.results.records import Judged
from finetune_assets.results.region import Region
from finetune_assets.task import Task


@dataclass(frozen=True, slots=True)
class Answered:
    """One model's answers to the test examples."""

    role: str
    """`base` or `fine_tuned`."""
    model: str
    rows: list[Prediction]
    scores: list[float]
    """Of each answer by the deciding metric, which is their mean."""


@dataclass(frozen=True, slots=True)
class Benchmarked:
    """A benchmark as it was made."""

    region: Region
    """With the task as its model was trained by."""
    judged: Judged
    examples: pd.DataFrame
    """The test examples, rows of `filtered_qa`, in the order of every model's answers."""
    models: list[Answered]
    """The base model and the fine-tuned one: a champion may have been asked in other words."""
    metric: str
    """The one that decides."""

    @property
    def task(self) -> Task:
        """The task, as its model was trained by."""
        return self.region.task

    @property
    def base_url(self) -> str | None:
        """Where the models answer; None for OpenAI."""
        return find_provider(self.task.provider).base_url

    def conversations(self) -> Iterator[list[dict[str, Any]]]:
        """Yield what was asked, example for example, with images as data URLs."""
        yield from requests_of(self.task, self.examples)


def read(region: Region) -> Benchmarked:
    """Read what the stages have left.

    Raises:
        RecordError: there is no benchmark, or the examples are not those that it was made of.
    """
    judged = Judged.of(region)
    table, clean = region.path("benchmark", ".parquet"), Table(region.path("filtered_qa", ".parquet"))
    if judged.inputs.get("filtered_qa") != content_hash(clean.path):
        raise RecordError(
            f"region {region.name}: benchmark is of other examples than are there now: materialise benchmark again"
        )
    region = replace(region, task=judged.task.applied_to(region.task))
    examples = clean.frame(split=("test",)).reset_index(drop=True)
    predictions = pd.read_parquet(str(table))
    scoring = scoring_of(region.task.answer, region.task.benchmark.metric)
    models = [_answered(predictions, role, examples, scoring) for role in ("base", "fine_tuned")]
    return Benchmarked(region, judged, examples, models, next(iter(scoring.metrics)))


def _answered(predictions: pd.DataFrame, role: str, examples: pd.DataFrame, scoring: Scoring[Any]) -> Answered:
    by_id = {row.example_id: row for row in read_predictions(predictions, "test", role)}
    rows = [by_id[known] for known in examples["example_id"]]
    return Answered(role, rows[0].model, rows, scoring.decisive(scoring.score(rows)).tolist())
