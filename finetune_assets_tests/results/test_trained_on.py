"""What a training file showed is known again, by everything that it is known by."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from upath import UPath

from finetune_assets.dataset.table import Table, write_table
from finetune_assets.results.region import Outputs, Region
from finetune_assets.results.trained_on import has_seen, note_trained
from finetune_assets_tests.pipeline.tasks import make_task

COLUMNS = ["example_id", "image_sha256", "group", "question", "system", "split"]
ROWS = [
    ("a", "1" * 64, "p1", "q", None, "train"),
    ("b", None, None, "How large is the moon, seen from the earth at night?", None, "validation"),
    ("c", "3" * 64, "p3", "q", None, "test"),
]


def examples(rows: list[tuple[str | None, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS).astype("str")


def test_examples_are_known_again_by_id_image_group_and_text(tmp_path: Path) -> None:
    region = Region(make_task(filtering={"near_duplicates": True}), "mono", Outputs(str(tmp_path)))
    table: Table = write_table(UPath(tmp_path) / "clean.parquet", examples(ROWS))
    note_trained(region, table, "f1")
    asked: list[tuple[str | None, ...]] = [
        ("a", "9" * 64, "p9", "q", None, "test"),
        ("x", "1" * 64, "p9", "q", None, "test"),
        ("x", "9" * 64, "p1", "q", None, "test"),
        ("x", None, None, "How large is the moon, seen from the earth at night?", None, "test"),
        ("c", "3" * 64, "p3", "q", None, "test"),
        ("x", None, None, "Which is the longest river of the southern continents?", None, "test"),
    ]
    found = has_seen(region, "f1", examples(asked))
    assert found is not None and found.tolist() == [True, True, True, True, False, False]


def test_what_nobody_noted_is_not_known(tmp_path: Path) -> None:
    region = Region(make_task(), "mono", Outputs(str(tmp_path)))
    assert has_seen(region, None, examples(ROWS)) is None
    assert has_seen(region, "unknown", examples(ROWS)) is None
