"""Which columns of a stage's table come from which of the tables before it, as Dagster shows it.

A column that two tables have by one name is one column that was handed on; what reviewers decide changes some of them.
The columns themselves are read from each file (see `io_manager`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg

from finetune_assets.asking import predictions
from finetune_assets.dataset import corrections, filtering, sampling

_TABLES: Mapping[str, Sequence[str]] = {
    "sampled_examples": list(sampling.DTYPES),
    "human_feedback": list(corrections.DTYPES),
    "filtered_qa": list(filtering.DTYPES),
    "benchmark": list(predictions.DTYPES),
}
_BEFORE = {"filtered_qa": ("sampled_examples", "human_feedback"), "benchmark": ("filtered_qa",)}
_OTHER_NAMES: Mapping[str, Mapping[str, Sequence[tuple[str, str]]]] = {
    "filtered_qa": {
        "label_from": [("human_feedback", "answer")],
        "source_answer": [("sampled_examples", "answer")],
        "source_score": [("sampled_examples", "score")],
        "reviewed_in": [("human_feedback", "queue")],
        "score": [("human_feedback", "answer")],
        "doubt": [("human_feedback", "answer")],
        "problem": [("human_feedback", "answer")],
        "detail": [("human_feedback", "comment")],
    },
    "benchmark": {
        "truth": [("filtered_qa", "answer")],
        "truth_value": [("filtered_qa", "score")],
        "source_truth": [("filtered_qa", "source_answer")],
        "source_value": [("filtered_qa", "source_score")],
        "doubtful": [("filtered_qa", "doubt")],
        "text": [("filtered_qa", "question"), ("filtered_qa", "system"), ("filtered_qa", "image")],
    },
}


def lineage(key: dg.AssetKey) -> dg.TableColumnLineage | None:
    """Return from which columns those of a stage's table come; None where they come from no other table."""
    task, stage = key.path[0], key.path[-1]
    if stage not in _BEFORE:
        return None
    deps = {
        column: [dg.TableColumnDep([task, table], name) for table, name in _sources(stage, column)]
        for column in _TABLES[stage]
    }
    return dg.TableColumnLineage({column: found for column, found in deps.items() if found})


def _sources(stage: str, column: str) -> list[tuple[str, str]]:
    handed_on = [(table, column) for table in _BEFORE[stage] if column in _TABLES[table]]
    return [*handed_on, *_OTHER_NAMES[stage].get(column, ())]
