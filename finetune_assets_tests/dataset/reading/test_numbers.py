import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.answer_reading.number_format import parse_number
from finetune_assets.dataset.reading.numbers import NumberColumn
from finetune_assets.errors import SourceError
from finetune_assets.task.dialect import Dialect


def column(*cells: object, **dialect: object) -> NumberColumn:
    def placed() -> Iterator[tuple[str, object]]:
        yield from ((f"line {number}", found) for number, found in enumerate(cells, 2))

    return NumberColumn(UPath("t.csv"), "price", placed, Dialect.model_validate(dialect))


def read(*cells: str, **dialect: object) -> list[float | None]:
    numbers = column(*cells, **dialect)
    return [parse_number(text, numbers.format) for text in cells]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("1.234,50", "1.234", "5.000"), [1234.5, 1234, 5000]),
        (("1.234", "12,5"), [1234, 12.5]),
        (("1,234", "0,125"), [1.234, 0.125]),
        (("1.234", "1.000.000"), [1234, 1e6]),
        (("1,234", "12.5"), [1234, 12.5]),
        (("1.234", "1234.5"), [1.234, 1234.5]),
        (("1,234", "1,234,567.8"), [1234, 1234567.8]),
        (("1'234.50", "5.125"), [1234.5, 5.125]),
        (("1 234", "5,125"), [1234, 5.125]),
        (("1\u202f234,5", "2\u00a0000"), [1234.5, 2000]),
        (("1.5e3", "1e-3", ".5"), [1500, 0.001, 0.5]),
        (("12", "7"), [12, 7]),
        (("3,50 EUR", "€ 1.234"), [3.5, 1234]),
        (("-1.234,5", "\u22122,5"), [-1234.5, -2.5]),
        (("1,23,456", "12,34,567.5"), [123456, 1234567.5]),
        (("\uff11\uff12", "\uff14\uff0e\uff15"), [12, 4.5]),
    ],
)
def test_one_cell_that_proves_a_sign_decides_for_the_column(cells: tuple[str, ...], values: list[float]) -> None:
    assert read(*cells) == values
    assert read(*reversed(cells)) == values[::-1]


@pytest.mark.parametrize(
    ("cells", "first", "second"),
    [
        (("12,5", "12.5"), "12,5", "12.5"),
        (("1.234,5", "0.125"), "1.234,5", "0.125"),
        (("1,234,567", "12,5"), "12,5", "1,234,567"),
        (("1.000.000", "0.5"), "1.000.000", "0.5"),
    ],
)
def test_a_column_that_proves_both_signs_is_refused_with_two_cells(
    cells: tuple[str, ...], first: str, second: str
) -> None:
    with pytest.raises(SourceError) as error:
        read(*cells)
    assert str(error.value).startswith(f"t.csv: column price: {first!r} (line ")
    assert f"shows a decimal comma, {second!r} (line " in str(error.value)
    assert "source.dialect: {decimal:" in str(error.value)


@pytest.mark.parametrize(("cell", "as_decimal", "as_group"), [("1.234", 1.234, 1234), ("5,000", 5, 5000)])
def test_a_column_that_proves_nothing_is_refused_until_the_yaml_says_it(
    cell: str, as_decimal: float, as_group: float
) -> None:
    sign, other = (".", ",") if "." in cell else (",", ".")
    with pytest.raises(SourceError, match=r"'.*' \(line 3\) may be .* or .*, and no cell shows which; write"):
        read("7", cell)
    assert read("7", cell, decimal=sign) == [7, as_decimal]
    assert read("7", cell, decimal=other) == [7, as_group]


def test_cells_that_are_not_written_as_the_yaml_says_are_no_numbers() -> None:
    assert read("12,5", "12.5", "1.234", decimal=",") == [12.5, None, 1234]
    assert read("1'234,5", "1.234", decimal=",", thousands="'") == [1234.5, None]


@pytest.mark.parametrize("cell", ["2 x 4", "1/2", "10-20", "-", "01.02.2026", "v1.2.3", "high", "1,2,3"])
def test_what_is_no_one_number_proves_nothing(cell: str) -> None:
    assert read(cell, "12,5")[0] is None
    assert read(cell, "12.5")[0] is None


def test_scores_in_percent_are_shares_where_all_are() -> None:
    numbers = column("85 %", "12,5%", "n/a")
    assert [numbers.share(cell) for cell in ("85 %", "12,5%", "n/a")] == [0.85, 0.125, None]
    for cells in (("85 %", "0.5"), ("0.5", "85%"), ("85 %", 1)):
        with pytest.raises(
            SourceError, match=r"column price: '85 ?%' \(line \d\) is in percent and '.*' \(line \d\) is"
        ):
            column(*cells).share(str(cells[0]))


def test_a_column_is_looked_through_only_where_a_text_needs_it() -> None:
    numbers = NumberColumn(UPath("t.csv"), "price", lambda: pytest.fail("read"), Dialect(decimal=","))
    assert numbers.share(0.5) == 0.5


@given(
    values=st.lists(st.decimals(-999_999, 999_999, places=2), min_size=1, max_size=8),
    signs=st.sampled_from([",.", ".,", ", ", ".'"]),
)
def test_whatever_format_a_column_is_written_in_its_numbers_are_read_back(values: list, signs: str) -> None:
    decimal, thousands = signs
    cells = [f"{value:,}".replace(",", "_").replace(".", decimal).replace("_", thousands) for value in values]
    assert read(*cells) == [float(value) for value in values]


@pytest.mark.parametrize("cell", ["5-", "3.2 -", "10\u00b3", "2^3"])
def test_a_power_or_a_minus_behind_is_no_number(cell: str) -> None:
    assert read(cell, "7.5") == [None, 7.5]


@pytest.mark.parametrize(
    ("cells", "of_two"),
    [
        (("3 kg", "3000 g"), "'3 kg' (line 2) and '3000 g' (line 3) are of different units"),
        (("EUR 5.50", "$7.25"), "'EUR 5.50' (line 2) and '$7.25' (line 3) are of different units"),
        (("85 %", "0.5"), "'85 %' (line 2) is in percent and '0.5' (line 3) is not"),
        (("2 years", "1 year", "3 weeks"), "'2 years' (line 2) and '3 weeks' (line 4) are of different units"),
        (("1 Tag", "5 Tage", "2 Mon."), "'1 Tag' (line 2) and '2 Mon.' (line 4) are of different units"),
        (("512 MB", "2 GB"), "'512 MB' (line 2) and '2 GB' (line 3) are of different units"),
        (("30 minutes", "1.5 hours"), "'30 minutes' (line 2) and '1.5 hours' (line 3) are of different units"),
    ],
)
def test_a_column_of_several_units_is_refused_with_two_cells(cells: tuple[str, ...], of_two: str) -> None:
    with pytest.raises(SourceError, match=re.escape(of_two)):
        read(*cells)
    assert read("5.50 \u20ac", "EUR 7.25", "3") == [5.5, 7.25, 3]
    assert read("1 cat", "2 dogs") == [1, 2]
    assert read("1 hour", "2 hours", "3 h", "4 hrs.", "5") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("cells", "of_two"),
    [
        (("3", "4a", "4b"), "'3' (line 2) and '4a' (line 3)"),
        (("4A", "4B"), "'4A' (line 2) and '4B' (line 3)"),
        (("19M", "201k"), "'19M' (line 2) and '201k' (line 3)"),
        (("\u20ac110.5M", "\u20ac565K"), "'\u20ac110.5M' (line 2) and '\u20ac565K' (line 3)"),
        (("900", "1.2M"), "'900' (line 2) and '1.2M' (line 3)"),
    ],
)
def test_letters_that_tell_cells_apart_are_no_part_of_a_number(cells: tuple[str, ...], of_two: str) -> None:
    with pytest.raises(SourceError, match=re.escape(of_two) + " differ in the letter behind the number; write"):
        read(*cells)


def test_a_letter_that_stands_behind_all_numbers_changes_none() -> None:
    assert read("4M", "5.5M", "0") == [4, 5.5, 0]
    assert read("5k", "300") == [5000, 300]
    assert read("5g", "300") == [5, 300]
