"""Cells read by the number format of their column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.answer_reading import NumberFormat, label, parse_number
from finetune_assets.task.answers import NumberAnswer

GERMAN, ENGLISH, SWISS = NumberFormat(",", "."), NumberFormat(".", ","), NumberFormat(".", "'")
FRENCH, PLAIN = NumberFormat(",", " "), NumberFormat(".")


@pytest.mark.parametrize(
    ("text", "number_format", "value"),
    [
        ("1.234", GERMAN, 1234),
        ("5.000", GERMAN, 5000),
        ("1.234,50 €", GERMAN, 1234.5),
        ("0,125", GERMAN, 0.125),
        ("1.23", GERMAN, None),
        ("1,234", ENGLISH, 1234),
        ("$1,234.5", ENGLISH, 1234.5),
        ("-$5", ENGLISH, -5),
        ("1,23", ENGLISH, None),
        ("1\u2019234.5", SWISS, 1234.5),
        ("1\u202f234,5 kg", FRENCH, 1234.5),
        ("1 299 EUR", FRENCH, 1299),
        ("1.234", PLAIN, 1.234),
        ("1,234", PLAIN, None),
        ("\u22125 °C", PLAIN, -5),
        ("5 m/s^2", PLAIN, 5),
        ("1.2e-3", PLAIN, 0.0012),
        ("1.1 million", PLAIN, 1_100_000),
        (".5", PLAIN, 0.5),
        ("3 for 10", PLAIN, None),
        ("10-20", PLAIN, None),
        ("1.2.3", PLAIN, None),
        ("12:30", PLAIN, None),
        ("1e999", PLAIN, None),
        ("not 5", PLAIN, None),
        ("over 5", PLAIN, None),
        ("5 or so", PLAIN, None),
        ("free", PLAIN, None),
        ("", PLAIN, None),
    ],
)
def test_a_cell_is_one_number_of_its_format_or_none(
    text: str, number_format: NumberFormat, value: float | None
) -> None:
    assert parse_number(text, number_format) == value


@given(st.integers(-(10**12), 10**12), st.integers(0, 99), st.sampled_from([GERMAN, ENGLISH, SWISS, FRENCH]))
def test_a_number_is_read_back_in_the_format_it_was_written_in(
    whole: int, cents: int, number_format: NumberFormat
) -> None:
    signs = {",": number_format.thousands, ".": number_format.decimal}
    written = "".join(signs.get(sign, sign) for sign in f"{whole:,}.{cents:02d}")
    assert parse_number(written, number_format) == float(f"{whole}.{cents:02d}")


def test_a_label_is_read_by_its_column_s_format() -> None:
    answer = NumberAnswer(kind="number")
    read = label("1.234", answer, GERMAN)
    assert read is not None and read.score == 1234
    assert label(1.5, answer, GERMAN) == label("1,5", answer, GERMAN)


@pytest.mark.parametrize("signs", [(",", ","), (".", "_"), ("x", "")])
def test_a_format_has_two_signs_that_numbers_are_written_with(signs: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"decimal"):
        NumberFormat(*signs)  # pyright: ignore[reportArgumentType]
