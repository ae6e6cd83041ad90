"""Data as people have it, and what `finetune-assets init` makes of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from finetune_assets.onboarding.conversation import begin, stated
from finetune_assets.task import Task, read_task
from finetune_assets_tests.dataset.pictures import picture, put


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def cells(folder: Path, n: int = 120) -> Path:
    for number in range(n):
        put(folder / f"cell {number}.png", picture(size=(16, 16), shade=20 + number))
    rows = [
        {
            "Bild": f"cell {number}.png",
            "Befund": "defekt" if number % 3 == 0 else "intakt",
            "Standort": "Nord" if number % 2 else "Süd",
            "Modul": f"M{number // 4}",
        }
        for number in range(n)
    ]
    return table(folder / "labels.csv", rows)


def photos(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        put(folder / name, picture(size=(16, 16), shade=20 + number % 200))


def begun(path: Path, *said: str, ask: Any = None) -> tuple[Task, str]:
    console = Console(record=True, width=160, file=io.StringIO())
    written = begin(path, stated(said), console, ask)
    assert written is not None
    return read_task(written.parent.name), console.export_text()
