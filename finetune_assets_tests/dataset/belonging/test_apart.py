"""What two splits must not share."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from upath import UPath

from finetune_assets.dataset.belonging.apart import Leak, leaks
from finetune_assets.dataset.table import Table, write_table


def table(folder: Path, **columns: list[str | None]) -> Table:
    rows = len(columns["split"])
    known = {name: [None] * rows for name in ("image_sha256", "look", "group", "question", "system")}
    return write_table(UPath(folder) / "t.parquet", pd.DataFrame({**known, **columns}).astype("str"))


def test_images_looks_and_groups_in_two_splits_are_named(tmp_path: Path) -> None:
    found = leaks(
        table(
            tmp_path,
            image_sha256=["a", "a", "b", "b", None, None, "c"],
            group=["g1", "g2", "g3", "g3", "g4", "g4", "g5"],
            look=["a", "a", None, "x", None, None, "x"],
            split=["train", "test", "train", "train", "validation", "test", None],
        )
    )
    assert found == [
        Leak("image_sha256", "a", ("test", "train")),
        Leak("look", "a", ("test", "train")),
        Leak("group", "g4", ("test", "validation")),
    ]


def test_near_equal_texts_count_only_where_no_image_is_asked_about(tmp_path: Path) -> None:
    texts = table(
        tmp_path,
        image_sha256=[None, None, "a", "b"],
        question=["What is the capital of X?", "what's the capital of x", "Is it broken?", "Is it broken?"],
        split=["train", "test", "train", "test"],
    )
    assert leaks(texts) == [Leak("text", "What is the capital of X?", ("test", "train"))]
    assert leaks(texts, near=False) == []
