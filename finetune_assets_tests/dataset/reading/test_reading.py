import json
from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.dataset.reading import record_name, rows, table_files
from finetune_assets.dataset.reading.cells import cell, text
from finetune_assets.errors import SourceError
from finetune_assets_tests.dataset.reading.tables import read


def test_the_same_rows_are_read_from_every_format(tmp_path: Path) -> None:
    cells = [{"a": "x, y", "b": 'say "no"'}, {"a": "line\nbreak", "b": "ü"}]
    table = pd.DataFrame(cells)
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "t.parquet")
    table.to_excel(tmp_path / "t.xlsx", index=False)
    (tmp_path / "t.json").write_text(json.dumps(cells))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in cells))
    for name in ("t.csv", "t.tsv", "t.parquet", "t.xlsx", "t.json", "t.jsonl"):
        assert [row for _, row in read(tmp_path / name)] == cells, name


def test_a_folder_means_all_its_tables_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "sub/a.parquet", ".hidden.csv", "_notes.csv", "~$open.xlsx", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in table_files(UPath(tmp_path))] == ["b.csv", "a.parquet"]
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match=r"none: the folder holds no file that ends in \.csv"):
        table_files(UPath(tmp_path / "none"))


def test_tables_are_read_from_any_file_system() -> None:
    UPath("memory://reading/t.csv").write_bytes("a,b\nü,x\n".encode("cp1252"))
    assert list(rows(UPath("memory://reading/t.csv"), ["a"])) == [(2, {"a": "ü", "b": "x"})]


def test_the_records_of_a_format_have_their_own_name() -> None:
    endings = (".csv", ".jsonl", ".parquet", ".xlsx", ".json")
    assert [record_name(UPath(f"t{ending}")) for ending in endings] == ["line", "line", "row", "row", "entry"]


def test_a_cell_as_text_is_empty_where_nothing_was_meant() -> None:
    assert [text(found) for found in (None, float("nan"), " x ", 3, 2.5, True, ["a", 1], b"a", b"\xff")] == [
        "", "", "x", "3", "2.5", "True", '["a",1]', "a", "",
    ]  # fmt: skip
    markers = ["NULL", "NaN", " nan ", "N/A", "None", "<NA>", pd.NaT]
    assert {text(found) for found in markers} == {""}
    assert [text(found) for found in ("NA", "none", "nano")] == ["NA", "none", "nano"]
    assert (text("None", ()), text("-", {"-"})) == ("None", "")


def test_a_cell_is_looked_for_in_objects_and_lists() -> None:
    row = {"a": {"b": [1, {"c": 2}]}, "x.y": 3}
    assert [cell(row, name) for name in ("a.b.0", "a.b.1.c", "a.b.2", "a.c", "x.y", "z")] == [1, 2, None, None, 3, None]
