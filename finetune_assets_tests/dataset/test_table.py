"""Tables that are written and read in chunks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.dataset.table import Table, records, replacing, write_table, writing

DTYPES = {"name": "str", "split": "str", "n": "Int64"}
FRAME = pd.DataFrame(
    {"name": [f"row {n}" for n in range(10)], "split": ["train", "test"] * 5, "n": [None, *range(1, 10)]}
).astype(DTYPES)


def written(path: Path, rows: int = 3) -> Table:
    with writing(UPath(path), DTYPES) as table:
        for start in range(0, len(FRAME), rows):
            table.write(FRAME.iloc[start : start + rows])
    return Table(UPath(path))


def test_what_was_written_in_chunks_is_read_as_one_frame(tmp_path: Path) -> None:
    table = written(tmp_path / "new" / "t.parquet")
    pd.testing.assert_frame_equal(table.frame(), FRAME)
    assert len(table) == 10


def test_chunks_are_small_and_number_their_rows_on(tmp_path: Path) -> None:
    chunks = list(written(tmp_path / "t.parquet").chunks(["n"], rows=4))
    assert all(len(chunk) <= 4 and list(chunk) == ["n"] for chunk in chunks)
    assert [row for chunk in chunks for row in chunk.index] == list(range(10))


def test_a_frame_can_be_of_some_splits_and_columns_only(tmp_path: Path) -> None:
    table = written(tmp_path / "t.parquet")
    assert table.frame(["name"], split="test")["name"].tolist() == [f"row {n}" for n in (1, 3, 5, 7, 9)]
    assert len(table.frame(split=["train", "test"])) == 10
    assert table.frame(split="validation").empty


def test_the_first_rows_can_be_of_a_split_and_have_a_value(tmp_path: Path) -> None:
    table = written(tmp_path / "t.parquet")
    assert table.first(2, split="train", having="n")["name"].tolist() == ["row 2", "row 4"]
    assert len(table.first(99)) == 10


def test_a_table_without_rows_keeps_its_columns_and_types(tmp_path: Path) -> None:
    with writing(UPath(tmp_path / "t.parquet"), DTYPES):
        pass
    table = Table(UPath(tmp_path / "t.parquet"))
    assert {name: str(kind) for name, kind in table.frame().dtypes.items()} == DTYPES
    assert [len(chunk) for chunk in table.chunks()] == [0]
    assert table.first(3).empty


def test_records_have_none_where_a_value_is_missing() -> None:
    assert records(FRAME.head(1)) == [{"name": "row 0", "split": "train", "n": None}]


def test_a_table_in_an_object_store_is_one_like_any_other() -> None:
    path = UPath("memory://tables/t.parquet")
    pd.testing.assert_frame_equal(write_table(path, FRAME).frame(), FRAME)
    assert [found.name for found in path.parent.iterdir()] == ["t.parquet"]


def test_a_writer_that_fails_leaves_the_old_table_and_no_litter(tmp_path: Path) -> None:
    table = written(tmp_path / "t.parquet")
    with pytest.raises(RuntimeError, match="halfway"), writing(table.path, DTYPES) as other:
        other.write(FRAME.head(2))
        raise RuntimeError("halfway")
    assert len(table) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_what_a_killed_writer_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    old, new = (tmp_path / f".t.parquet.{pid}.tmp" for pid in (1, 2))
    for path in (old, new):
        path.write_bytes(b"half")
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    with replacing(UPath(tmp_path / "t.parquet")) as file:
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, "t.parquet"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    target = UPath(tmp_path) / "a.bin"
    code = "import sys, time; from upath import UPath; from finetune_assets.dataset.table import replacing\n"
    code += "with replacing(UPath(sys.argv[1])) as file: file.write(b'half'); print(flush=True); time.sleep(60)"
    writer = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline()
    with replacing(target) as file:
        file.write(b"whole")
    assert len(list(tmp_path.glob(".a.bin.*.tmp"))) == 1  # the other one is still at it
    writer.kill()
    writer.communicate()
    with replacing(target) as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_rows_from_lists_are_those_from_a_frame_and_columns_that_lack_are_missing(tmp_path: Path) -> None:
    columns = {"name": ["a", None], "size": [1, None], "score": [0.5, float("nan")], "fit": [True, None]}
    dtypes = {"name": "str", "size": "Int64", "score": "float64", "fit": "boolean", "note": "str"}
    with writing(UPath(tmp_path) / "lists.parquet", dtypes) as table:
        table.write_columns(columns)
    with writing(UPath(tmp_path) / "frame.parquet", dtypes) as table:
        table.write(pd.DataFrame(columns))
    found, wanted = (Table(UPath(tmp_path) / name).frame() for name in ("lists.parquet", "frame.parquet"))
    pd.testing.assert_frame_equal(found, wanted)
    assert all(pd.isna(value) for value in found.loc[1].tolist())
    assert found.loc[[1]].isna().to_numpy().all()
