import io
import zipfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pytest

from finetune_assets.errors import SourceError
from finetune_assets_tests.dataset.reading.tables import read

HEADER, ONE = ["a", "b"], ["x", 1]


def workbook(path: Path, **sheets: Sequence[Sequence[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def test_cells_are_what_they_show(tmp_path: Path) -> None:
    cells = ["x", 3.0, 3.5, True, date(2026, 1, 2), datetime(2026, 1, 2, 3, 4), None]
    path = workbook(tmp_path / "t.xlsx", Data=[HEADER, *([found, "b"] for found in cells)])
    shown = [row["a"] for _, row in read(path) if isinstance(row, dict)]
    assert shown == ["x", 3, 3.5, True, date(2026, 1, 2), datetime(2026, 1, 2, 3, 4), ""]
    assert type(shown[1]) is int and type(shown[4]) is date


def test_a_cell_in_percent_is_the_share_that_it_shows(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", Data=[HEADER, ["x", 0.85]])
    book = openpyxl.load_workbook(path)
    book["Data"]["B2"].number_format = "0%"
    book.save(path)
    assert read(path) == [(2, {"a": "x", "b": 0.85})]


def test_titles_and_blank_rows_are_no_records_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", Data=[[], ["Results of May"], [], HEADER, ONE, [], ["y", 2]])
    book = openpyxl.load_workbook(path)
    book["Data"].merge_cells("A2:B2")
    book.save(path)
    assert read(path) == [(5, {"a": "x", "b": 1}), (7, {"a": "y", "b": 2})]


def test_the_only_sheet_with_the_columns_is_the_table(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", Legend=[["letter", "meaning"], ["x", "good"]], Data=[HEADER, ONE], Empty=[])
    assert read(path) == [(2, {"a": "x", "b": 1})]


def test_of_several_sheets_the_yaml_names_one(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", May=[HEADER, ONE], June=[HEADER, ["y", 2]])
    with pytest.raises(SourceError, match="the sheets 'May' and 'June' have these columns; write `source.dialect"):
        read(path)
    assert read(path, sheet="June") == [(2, {"a": "y", "b": 2})]
    with pytest.raises(SourceError, match="there is no sheet 'Mai'; there are May, June"):
        read(path, sheet="Mai")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", Data=[["Title"], ["image", "lable"], ONE])
    with pytest.raises(SourceError, match=r"t\.xlsx \[Data\]: .* it has image, lable\. Did you mean 'lable'\?"):
        read(path, needed=("label",))
    with pytest.raises(SourceError, match="the columns 1 and 3 are both called 'a'"):
        read(workbook(tmp_path / "t.xlsx", Data=[["a", "b", "a"], [1, 2, 3]]))
    with pytest.raises(SourceError, match="no sheet has a header"):
        read(workbook(tmp_path / "t.xlsx", Data=[]))


def test_what_is_no_workbook_or_a_bomb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.xlsx: is not a readable workbook"):
        read(tmp_path / "t.xlsx", b"PK\3\4 not really")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w") as parts:
        parts.writestr("xl/worksheets/sheet1.xml", b"")
        parts.filelist[0].file_size = 1100 << 20
    with pytest.raises(SourceError, match="1100 MiB unpacked"):
        read(tmp_path / "t.xlsx", bomb.getvalue())
