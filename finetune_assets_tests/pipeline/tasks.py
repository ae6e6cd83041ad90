"""Tasks for the tests of the pipeline."""

from __future__ import annotations

from typing import Any

from finetune_assets.task import Task


def make_task(**changes: Any) -> Task:
    """Build a small valid task, with any of its fields replaced."""
    fields: dict[str, Any] = {
        "task": "cells",
        "regions": ["mono"],
        "source": {"kind": "elpv"},
        "sampling": {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2},
        "prompt": {"user": "{question} Answer Yes or No."},
        "answer": {"kind": "binary"},
        "base_model": "gpt-4o-2024-08-06",
        "method": {"n_epochs": 1},
    }
    return Task.model_validate(fields | changes)
