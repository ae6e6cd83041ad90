import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.sources.records import record_name, rows, table_files, text
from finetune_assets.errors import SourceError


def read(path: Path, content: str | bytes | None = None, needed: tuple[str, ...] = ("a", "b")) -> list[tuple]:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(rows(UPath(path), needed))


def test_the_same_rows_are_read_from_every_format(tmp_path: Path) -> None:
    cells = [{"a": "x, y", "b": 'say "no"'}, {"a": "line\nbreak", "b": "ü"}]
    pd.DataFrame(cells).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame(cells).to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    pd.DataFrame(cells).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text(json.dumps(cells))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in cells))
    for name in ("t.csv", "t.tsv", "t.parquet", "t.json", "t.jsonl"):
        assert [row for _, row in read(tmp_path / name)] == cells, name


def test_a_quoted_cell_may_hold_line_breaks_and_the_lines_are_counted_all_the_same(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", 'a,b\n"1\n\n2",x\n\n3,"y\n"\n4,z\n')
    assert found == [
        (2, {"a": "1\n\n2", "b": "x"}),
        (6, {"a": "3", "b": "y\n"}),
        (8, {"a": "4", "b": "z"}),
    ]


def test_a_quote_left_open_spoils_its_own_line_only(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", 'a,b\n1,x\n"2,x\n3,x\n4,"x\ny"\n"5,x\n')
    assert [(number, type(row)) for number, row in found] == [(2, dict), (3, str), (4, dict), (5, dict), (7, str)]
    assert "opens a quote that is not closed" in found[1][1]


def test_a_quote_within_a_cell_is_a_letter_like_any_other(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", 'a,b\n5" pipe,x\n') == [(2, {"a": '5" pipe', "b": "x"})]


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_cells(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", b"\xef\xbb\xbfa,b\r\n1,x\r\n") == [(2, {"a": "1", "b": "x"})]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_what_a_spreadsheet_puts_between_cells_is_seen_in_the_header(tmp_path: Path, delimiter: str) -> None:
    table = "a, b ,c\n1,x;y,2\n".replace(";", "_").replace(",", delimiter)
    assert read(tmp_path / "t.csv", table) == [(2, {"a": "1", "b": "x_y", "c": "2"})]


def test_a_header_may_hold_what_divides_cells_elsewhere(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "a,b,c;d\n1,x,y;z\n") == [(2, {"a": "1", "b": "x", "c;d": "y;z"})]


def test_a_json_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert read(tmp_path / "t.json", b'\xef\xbb\xbf[{"a": 1}]') == [(1, {"a": 1})]


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\r\0\ufffd", codec="utf-8"))] * 2)))
def test_whatever_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([("a", "b"), *cells])
    found = read(tmp_path_factory.mktemp("csv") / "t.csv", written.getvalue())
    assert [row for _, row in found] == [{"a": a, "b": b} for a, b in cells]


def test_a_json_entry_that_is_no_object_hides_no_other(tmp_path: Path) -> None:
    assert read(tmp_path / "t.json", '[1, {"a": 2, "b": 3}]') == [
        (1, "entry 1 must be an object, found a number (1)"),
        (2, {"a": 2, "b": 3}),
    ]
    with pytest.raises(SourceError, match=r"t\.json: line 1, column 2"):
        read(tmp_path / "t.json", "[")


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.csv: the table lacks the columns b; it has a, c"):
        read(tmp_path / "t.csv", "a,c\n1,2\n")


def test_a_header_in_another_encoding_says_how_to_save_the_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.csv: the header is not UTF-8; save the file as UTF-8"):
        read(tmp_path / "t.csv", "a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(SourceError, match="lacks the columns a, b; it has none"):
        read(tmp_path / "t.csv", "")


def test_only_the_wanted_columns_of_a_parquet_table_are_read(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1], "b": [2], "big": ["x" * 1000]}).to_parquet(tmp_path / "t.parquet")
    assert list(rows(UPath(tmp_path / "t.parquet"), ["a"], ["b", "none"])) == [(1, {"a": 1, "b": 2})]


def test_a_folder_means_all_its_tables_by_name(tmp_path: Path) -> None:
    for name in ("b.csv", "sub/a.parquet", ".hidden.csv", "_notes.csv", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.name for file in table_files(UPath(tmp_path))] == ["b.csv", "a.parquet"]
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match=r"none: the folder holds no file that ends in \.csv"):
        table_files(UPath(tmp_path / "none"))


def test_tables_are_read_from_any_file_system() -> None:
    UPath("memory://records/t.csv").write_text("a,b\n1,x\n")
    assert list(rows(UPath("memory://records/t.csv"), ["a"])) == [(2, {"a": "1", "b": "x"})]


def test_the_records_of_a_format_have_their_own_name() -> None:
    assert [record_name(UPath(f"t{ending}")) for ending in (".csv", ".jsonl", ".parquet", ".json")] == [
        "line",
        "line",
        "row",
        "entry",
    ]


def test_a_cell_as_text_is_empty_where_nothing_was_meant() -> None:
    assert [text(cell) for cell in (None, float("nan"), " x ", 3, 2.5, True, ["a", 1])] == [
        "", "", "x", "3", "2.5", "True", '["a",1]',
    ]  # fmt: skip
