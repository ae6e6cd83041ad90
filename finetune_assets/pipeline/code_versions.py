"""What of a task each stage reads: a change of it makes the stage stale, with what follows from it, and nothing else.

Dagster shows a stage as stale whose code version has changed since it was made, or whose input has another data version
by now. The first is a hash of the fields below, the second of what came out: a stage that is made again and comes out
as before makes nothing stale. Neither tells of budgets, descriptions, severities of checks or who is notified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import reduce
from typing import Any

import orjson
import pandas as pd

from finetune_assets.dataset.table import Table, hashes
from finetune_assets.provider.files import content_hash
from finetune_assets.results.records import Record
from finetune_assets.task import Task

READS: Mapping[str, tuple[str, ...]] = {
    "sampled_examples": ("source", "sampling", "answer", "filtering.near_duplicates"),
    "human_feedback": (),
    "filtered_qa": ("answer", "filtering"),
    "training_jsonl": ("prompt", "method.type"),
    "validation_report": ("provider", "base_model", "method"),
    "uploaded_file": ("provider",),
    "finetune_job": ("provider", "base_model", "method", "training_type"),
    "finetuned_model": ("deployment",),
    "benchmark": ("benchmark.ask", "benchmark.metric", "benchmark.elsewhere", "benchmark.arms"),
    "calibrator": ("benchmark.metric", "benchmark.operating_point", "benchmark.defer"),
    "champion": ("promotion", "benchmark.max_failed", "benchmark.max_unreadable"),
}
"""Fields of the task by stage, those of parts after a dot. Stages judge a model as it was trained, so that from
`finetuned_model` on what it was trained with does not count."""
_PLACES = ("path", "images")
"""Of a source: where its files lie. Whether what is in them has changed is asked of their rows, and a project that is
moved has not changed."""
_PASSING = {"reused", "status", "task_fingerprint", "estimated_finish"}
"""Of a record: what may differ although the same came out."""


def code_version(task: Task, stage: str) -> str:
    """Return 16 hex digits of all that a stage reads of its task."""
    said = task.model_dump(mode="json")
    source = said["source"]
    # The `images` of some sources are a folder, those of others what each question shows.
    said["source"] = {key: of for key, of in source.items() if key not in _PLACES or not isinstance(of, str)}
    read = {field: reduce(lambda part, name: part[name], field.split("."), said) for field in READS[stage]}
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]


def data_version(value: Record | Mapping[str, Any] | Table | pd.DataFrame) -> str:
    """Return the SHA-256 (hex) of what came out of a stage."""
    if isinstance(value, Table):
        return content_hash(value.path)
    if isinstance(value, pd.DataFrame):
        return hashlib.sha256(hashes(value).tobytes()).hexdigest()
    said = value.model_dump(mode="json", exclude={"task": {"fingerprint"}}) if isinstance(value, Record) else value
    return hashlib.sha256(orjson.dumps(_lasting(said), option=_SORTED)).hexdigest()


_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _lasting(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {str(name): _lasting(value) for name, value in part.items() if name not in _PASSING}
    return [_lasting(value) for value in part] if isinstance(part, list | tuple) else part
