"""The job of a task whose method is reinforcement, as the server takes it."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_assets.asking.job import job_request
from finetune_assets.asking.spending import estimate
from finetune_assets.errors import TaskError
from finetune_assets.migration import successor
from finetune_assets.provider.fine_tuning import parameters
from finetune_assets.server.api.job_format import JobBody, hyperparameters, reinforced
from finetune_assets.server.grading.graders import read
from finetune_assets.server.grading.template import Values
from finetune_assets.task import Task
from finetune_assets_tests.provider.test_fine_tuning import FILE

GRADED: dict[str, Any] = {
    "task": "cells", "regions": ["mono"], "base_model": "tiny-text", "provider": "local",
    "source": {"kind": "elpv", "question": "Is this cell defective?"},
    "sampling": {"train": 10, "validation": 4, "calibration": 4, "test": 4}, "answer": {"kind": "binary"},
    "method": {"type": "reinforcement", "n_epochs": 1, "batch_size": 5},
}  # fmt: skip


def test_the_job_is_one_that_the_server_takes_with_the_words_as_its_grader() -> None:
    request = job_request(Task.model_validate(GRADED), "mono", {"train": FILE, "validation": FILE})
    asked = JobBody.model_validate(parameters(request))
    assert asked.method_type == "reinforcement"
    assert hyperparameters(asked)["max_completion_tokens"] == 16
    grader = read((reinforced(asked) or {})["grader"])
    rewards = {
        said: grader.grade(Values({"answer": "No"}, said), iter(())).reward
        for said in ("No", "no.", "I know it is not, but maybe no", "Yes")
    }
    assert list(rewards.values()) == pytest.approx([1.0, 0.1, 0.1, 0.0])


def test_long_words_have_room() -> None:
    words = {"kind": "choice", "options": ["a", "ä" * 20]}
    table = {"kind": "table", "path": "t.csv", "question": "{q}", "answer": "{a}"}
    task = Task.model_validate(GRADED | {"source": table, "answer": words})
    request = job_request(task, "mono", {"train": FILE, "validation": FILE})
    assert request.method.max_completion_tokens == 41


def test_each_prompt_counts_as_often_as_it_is_answered() -> None:
    assert estimate(Task.model_validate(GRADED), 100, 10).tokens == 800
    half = GRADED["method"] | {"compute_multiplier": 0.5}
    assert estimate(Task.model_validate(GRADED | {"method": half}), 100, 10).tokens == 400


def test_it_moves_to_no_provider_where_it_is_paid_by_the_hour() -> None:
    with pytest.raises(TaskError, match="paid by the hour at openai"):
        successor(Task.model_validate(GRADED), "openai", "o4-mini-2025-04-16")
