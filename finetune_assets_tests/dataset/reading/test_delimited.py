import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import SourceError
from finetune_assets_tests.dataset.reading.tables import read

ONE = [(2, {"a": "1", "b": "x"})]


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


def test_a_blank_before_a_quote_is_no_part_of_the_cell(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", 'a, b\n1, "x, y"\n') == [(2, {"a": "1", "b": "x, y"})]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b\r\n1,x\r\n",
        b"a,b\r1,x\r",
        b"a,b\n1,x\n,\n  \n",
        b'"a" , b\n1,x\n',
        "\u200ba,\u00a0b\u00a0\n1,x\n".encode(),
    ],
    ids=["mark", "old mac", "blank lines", "blanks in the header", "what nobody sees"],
)
def test_what_is_no_part_of_cells_is_passed_over(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "t.csv", content) == ONE


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_what_a_spreadsheet_puts_between_cells_is_seen_in_the_header(tmp_path: Path, delimiter: str) -> None:
    table = "a, b ,c\n1,x;y,2\n".replace(";", "_").replace(",", delimiter)
    assert read(tmp_path / "t.csv", table) == [(2, {"a": "1", "b": "x_y", "c": "2"})]


def test_a_header_may_hold_what_divides_cells_elsewhere(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "a,b,c;d\n1,x,y;z\n") == [(2, {"a": "1", "b": "x", "c;d": "y;z"})]


def test_a_column_may_be_divided_by_what_the_yaml_says(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "a^b\n1^x\n", delimiter="^") == ONE


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("sep=,\n", 3),
        ("SEP=,\r\n", 3),
        ("# written by a scanner\n# on a Monday\n", 4),
        ("Results, all of them; final\n\n", 4),
    ],
)
def test_what_stands_above_the_header_is_no_record(tmp_path: Path, above: str, line: int) -> None:
    assert read(tmp_path / "t.csv", f"{above}a,b\n1,x\n") == [(line, {"a": "1", "b": "x"})]


def test_an_unusual_delimiter_is_taken_from_the_spreadsheets_own_line(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "sep=!\na!b\n1!x\n") == [(3, {"a": "1", "b": "x"})]


def test_lines_that_look_like_a_header_are_skipped_where_the_yaml_says_so(tmp_path: Path) -> None:
    content = "a,b\nunit,name\nb,a\nx,1\n"
    assert read(tmp_path / "t.csv", content, skip_lines=2) == [(4, {"a": "1", "b": "x"})]
    with pytest.raises(SourceError, match="lacks the columns a, b; it has unit, name"):
        read(tmp_path / "t.csv", content, skip_lines=1)


def test_a_header_of_several_lines_is_one_header(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", '"a\n(0 to 1)",b\n1,x\n', needed=("a (0 to 1)", "b"))
    assert found == [(3, {"a (0 to 1)": "1", "b": "x"})]


def test_a_header_that_is_repeated_within_the_table_is_no_record(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "a,b\n1,x\na,b\n") == [*ONE, (3, "the line repeats the header; remove it")]


@pytest.mark.parametrize("content", ["a,b,\n1,x,\n", "a,b\n1,x,\n", "a,b,,\n1,x\n", "a,b,\n1,x,\n2\n"])
def test_a_delimiter_more_at_the_end_of_lines_is_no_cell(tmp_path: Path, content: str) -> None:
    _, first = read(tmp_path / "t.csv", content)[0]
    assert isinstance(first, dict)
    assert (first["a"], first["b"]) == ("1", "x")


def test_a_delimiter_more_is_a_cell_where_other_lines_have_none(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", "a,b\n1,x\nhm, well,\n")
    assert found == [*ONE, (3, "the line has 3 cells, the header 2: 'hm, well,'")]
    found = read(tmp_path / "t.csv", "a,b\n1,x,\nhm,no,yes\n2,x\n")
    assert found[0][1] == "the line has 3 cells, the header 2: '1,x,'"


def test_a_cell_where_all_lines_have_a_delimiter_more_is_said(tmp_path: Path) -> None:
    lines = "1,x,\n" * 300
    *_, (number, last) = read(tmp_path / "t.csv", f"a,b\n{lines}2,x,y\n")
    assert (number, last) == (302, "the line has a cell more than the header: 'y'")


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.csv: the table lacks the columns b; it has a, c"):
        read(tmp_path / "t.csv", "a,c\n1,2\n")
    with pytest.raises(SourceError, match=r"it has image, lable\. Did you mean 'lable'\?"):
        read(tmp_path / "t.csv", "image,lable\n1,2\n", needed=("label",))
    with pytest.raises(SourceError, match="lacks the columns a, b; it has none"):
        read(tmp_path / "t.csv", "")


def test_two_columns_of_one_name_are_refused_where_it_is_meant(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.csv: the columns 1 and 3 are both called 'a'"):
        read(tmp_path / "t.csv", "a,b,a\n1,x,2\n")
    assert len(read(tmp_path / "t.csv", "a,b,note,note\n1,x,2,3\n")) == 1


CELL = st.text(st.characters(exclude_characters="\r\0\ufffd\ufeff", codec="utf-8"), max_size=8)


@given(
    cells=st.lists(st.tuples(CELL.filter(str.strip), CELL), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    above=st.sampled_from(["", "sep={}\n", "# a comment\n", "A title\n\n"]),
    one_more=st.sampled_from(["", "header", "rows"]),
)
def test_whatever_dialect_a_table_is_written_in_the_same_cells_are_read(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], delimiter: str, encoding: str,
    line_end: str, above: str, one_more: str,
) -> None:  # fmt: skip
    written = io.StringIO()
    more = [""] if one_more else []
    writer = csv.writer(written, lineterminator=line_end, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["name", "of it", *(more if one_more == "header" else [])])
    writer.writerows([*row, *more] for row in cells)
    content = above.format(delimiter) + written.getvalue()
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    found = read(path, content.encode(encoding), needed=("name", "of it"))
    expected = [tuple(part.replace("\r\n", "\n") for part in row) for row in cells]
    assert [(row["name"], row["of it"]) for _, row in found if isinstance(row, dict)] == expected
