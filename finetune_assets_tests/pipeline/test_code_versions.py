"""What of a task's YAML counts for a stage, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_assets.pipeline.code_versions import READS, code_version
from finetune_assets.task import Task
from finetune_assets.task.judging import Benchmark
from finetune_assets_tests.pipeline.tasks import make_task


def parts(*images: Any, **changes: Any) -> Task:
    source = {
        "kind": "table",
        "path": "parts.csv",
        "question": "Is it broken?",
        "region": "all",
        "images": list(images),
    }
    return make_task(regions=["all"], source=source | changes)


def changed(before: Task, after: Task) -> list[str]:
    """The stages whose version differs."""
    return [stage for stage in READS if code_version(before, stage) != code_version(after, stage)]


def test_which_images_a_question_shows_and_what_is_said_of_them_counts_from_the_first_stage_on() -> None:
    before = parts("{reference}", "{file}")
    assert changed(before, parts("{file}", "{reference}")) == ["sampled_examples"]
    assert changed(before, parts({"image": "{reference}", "label": "Before:"}, "{file}")) == ["sampled_examples"]


def test_where_files_lie_counts_for_nothing() -> None:
    assert changed(parts("{a}", "{b}"), parts("{a}", "{b}", path="elsewhere/parts.csv")) == []
    label_studio = {"kind": "label_studio", "path": "export.json"}
    here, there = (make_task(source=label_studio | {"images": folder}) for folder in ("here", "there"))
    assert changed(here, there) == []


@pytest.mark.parametrize("how", [{"ask": "completions"}, {"metric": "balanced_accuracy"}])
def test_another_way_to_ask_or_to_decide_judges_every_model_anew(how: dict[str, Any]) -> None:
    assert "benchmark" in changed(make_task(), make_task(benchmark=how))


def test_every_key_of_a_task_counts_for_a_stage_or_is_known_to_make_nothing() -> None:
    read = {field for fields in READS.values() for field in fields}
    makes_nothing = {
        *("task", "description", "regions", "checks", "budget_usd", "monthly_budget_usd", "max_open_jobs", "wandb"),
        *("prices", "costs", "rerun", "owners", "tags", "run_tags", "op_tags", "notify", "review", "in_use"),
        *("benchmark.concurrency", "benchmark.batch", "benchmark.smallest_gain"),
    }
    keys = {key for key in Task.model_fields if key != "benchmark"}
    keys |= {f"benchmark.{key}" for key in Benchmark.model_fields}
    assert keys - read == makes_nothing
