"""Data sets of this project's own, each broken in one way, as tasks in a folder of a user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from finetune_assets_tests.dataset.pictures import picture, put

TABLE = 'kind: table, path: t.csv, question: "{question}", answer: "{answer}", region: "{region}"'
PICTURES = (
    'kind: table, path: t.csv, image: "{file}", question: "Is it bright?", answer: "{answer}", region: "{region}"'
)
SCORES = 'kind: scored_images, path: t.csv, question: "Is it bright?"'


def write_task(folder: Path, source: str = TABLE, **changes: str) -> Path:
    """Write the task of the folder's name and return the folder, where its data goes."""
    said = {
        "regions": "[north]",
        "sampling": "{train: 0.4, validation: 0.2, calibration: 0.2, test: 0.2}",
        "answer": '{kind: binary, positive: "Yes", negative: "No"}',
        "base_model": "gpt-4o-2024-08-06",
    } | changes
    folder.mkdir(parents=True)
    lines = [f"  {key}: {value}" for key, value in {"task": folder.name, "source": f"{{{source}}}", **said}.items()]
    header = "type: finetune_assets.pipeline.FineTuningTask\nattributes:\n"
    (folder / "defs.yaml").write_text(header + "\n".join(lines) + "\n")
    return folder


def rows(n: int = 60, **columns: Any) -> pd.DataFrame:
    """Return n sound rows; a column is the same in all of them, or made from the row's number."""
    made = []
    for i in range(n):
        row = {"question": f"Is {i} even?", "answer": "Yes" if i % 2 == 0 else "No", "region": "north"}
        made.append(row | {name: value(i) if callable(value) else value for name, value in columns.items()})
    return pd.DataFrame(
        made, columns=["question", "answer", "region", *(set(columns) - {"question", "answer", "region"})]
    )


def write_rows(folder: Path, n: int = 60, **columns: Any) -> None:
    """Write rows as the table of a task."""
    rows(n, **columns).to_csv(folder / "t.csv", index=False)


def write_scores(folder: Path, score: Callable[[int], float]) -> None:
    """Write sixty pictures with their scores."""
    for i in range(60):
        put(folder / f"{i}.png", picture(size=(16, 16 + i), shade=20 + 3 * i))
    made = [{"image_url": f"{i}.png", "score": score(i), "region": "north"} for i in range(60)]
    pd.DataFrame(made).to_csv(folder / "t.csv", index=False)
