"""From which columns those of a stage's table come."""

from __future__ import annotations

import dagster as dg

from finetune_assets.asking import predictions
from finetune_assets.dataset import corrections, filtering, sampling
from finetune_assets.pipeline.columns import lineage

TABLES = {
    "sampled_examples": sampling.DTYPES,
    "human_feedback": corrections.DTYPES,
    "filtered_qa": filtering.DTYPES,
    "benchmark": predictions.DTYPES,
}


def sources(stage: str, column: str) -> set[str]:
    found = lineage(dg.AssetKey(["cells", stage]))
    assert found is not None
    return {f"{dep.asset_key.path[-1]}.{dep.column_name}" for dep in found.deps_by_column[column]}


def test_an_answer_comes_from_the_source_or_from_a_reviewer_and_is_the_truth_of_the_benchmark() -> None:
    assert sources("filtered_qa", "answer") == {"sampled_examples.answer", "human_feedback.answer"}
    assert sources("filtered_qa", "image_sha256") == {"sampled_examples.image_sha256"}
    assert sources("benchmark", "truth") == {"filtered_qa.answer"}


def test_what_begins_in_a_table_comes_from_no_other() -> None:
    assert lineage(dg.AssetKey(["cells", "sampled_examples"])) is None
    found = lineage(dg.AssetKey(["cells", "benchmark"]))
    assert found and not {"model", "latency_s"} & set(found.deps_by_column)


def test_every_column_that_is_named_is_one_of_its_table() -> None:
    for stage in ("filtered_qa", "benchmark"):
        found = lineage(dg.AssetKey(["cells", stage]))
        assert found and set(found.deps_by_column) <= set(TABLES[stage])
        for deps in found.deps_by_column.values():
            assert all(dep.column_name in TABLES[dep.asset_key.path[-1]] for dep in deps)
