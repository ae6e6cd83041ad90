"""A working directory as a user has it: tasks of his own, and a server that trains a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server_process import make_home

WORDS = ("Yes", "No")


def write_task(home: Path, name: str, rows: int = 80) -> Path:
    """Write `tasks/<name>/`, whose only region is `all` and whose questions name their answer; return its YAML file."""
    folder = home / "tasks" / name
    folder.mkdir(parents=True)
    asked = [{"question": f"{WORDS[n % 2]} {name} {n}?", "answer": WORDS[n % 2]} for n in range(rows)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    task = make_task(
        task=name,
        regions=["all"],
        source={"kind": "table", "path": "rows.jsonl", "region": "all"},
        sampling={"train": 30, "validation": 10, "calibration": 20, "test": 20},
        prompt={"user": "{question}"},
        filtering={"label_errors": "off"},
        benchmark={"elsewhere": 0},
        base_model="tiny-text",
        method={"n_epochs": 1, "batch_size": 4},
    )
    said = {"type": "finetune_assets.pipeline.FineTuningTask", "attributes": task.model_dump(mode="json")}
    (folder / "defs.yaml").write_text(yaml.safe_dump(said))
    return folder / "defs.yaml"


def write_home(home: Path, *tasks: str) -> Path:
    """Write a home with these tasks."""
    (home / "var/server").mkdir(parents=True)
    make_home(home / "var/server")
    for name in tasks:
        write_task(home, name)
    return home
