"""Names that are the same tomorrow, elsewhere, and in another spelling."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.identity import ascii_name, example_id, file_name, folded, group_name, region_name
from finetune_assets.task.sources import is_name


@pytest.mark.parametrize(
    ("text", "name"),
    [("R2A", "r2a"), (" Left  lung ", "left-lung"), ("R_1", "r_1"), (9, "9"), ("Bär", "bär"), ("胸部", "胸部"),
     ("Грудь", "грудь"), ("हृदय", "हृदय"), ("\uff2c\uff35\uff2e\uff27", "lung"), ("Straße", "strasse"),
     *((nothing, "") for nothing in ("--", "", " ", None, "N/A", "nan", "None", float("nan"), "#N/A", "???"))],
)  # fmt: skip
def test_a_region_is_spelled_as_tasks_do_in_any_script(text: object, name: str) -> None:
    assert region_name(text) == name


def test_different_names_stay_different_regions() -> None:
    names = [
        "Bär",
        "Bör",
        "Links/Oben",
        "links-oben",
        "links_oben",
        "C++",
        "C#",
        "c",
        "a..b",
        "a.b",
        "x" * 80,
        "x" * 81,
    ]
    assert len({region_name(name) for name in names}) == len(names)
    assert region_name("Links/Oben").startswith("links-oben-")


@given(st.text())
def test_a_region_s_name_is_empty_or_valid_in_a_task_and_stays_the_same(text: str) -> None:
    name = region_name(text)
    assert not name or is_name(name)
    assert region_name(name) == name
    assert len(name.encode()) <= 120


@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_unicode_forms_of_a_name_are_one_region(text: str, form: str) -> None:
    assert region_name(unicodedata.normalize(form, text)) == region_name(text)  # pyright: ignore[reportArgumentType]


@given(st.text(), st.text())
def test_two_names_are_one_region_only_where_a_hyphen_stands_for_a_space(one: str, other: str) -> None:
    name = region_name(one)
    if name and name == region_name(other):
        assert folded(one).replace(" ", "-").strip("-") == folded(other).replace(" ", "-").strip("-")


@given(st.text(), st.text())
def test_models_names_are_plain_letters_and_tell_regions_apart(one: str, other: str) -> None:
    plain = [ascii_name(region_name(text)) for text in (one, other)]
    assert all(name.isascii() for name in plain)
    assert (plain[0] == plain[1]) == (region_name(one) == region_name(other))


def test_one_group_in_several_spellings_is_one() -> None:
    assert {group_name(patient) for patient in (12, 12.0, "12", " 12 ", "12.0", "012", "\uff11\uff12", "1.2e1")} == {
        "12"
    }
    spelled = ("P 01", "p  01", "\uff50 01", "P-01", "P\u201001", "p01", "P_1", "p.001")
    assert {group_name(patient) for patient in spelled} == {"p1"}
    assert len({group_name(patient) for patient in ("P1", "P10", "Q1", "1-1", "11", "1.2.840", "a-b")}) == 7
    assert {group_name(nothing) for nothing in (None, "", " ", "NaN", "N/A", float("nan"), "null")} == {""}
    assert group_name("0") == group_name(0) == "0"
    assert group_name("1.5") == "1.5"


def test_a_file_has_one_name_on_every_machine() -> None:
    assert file_name("a\\b.png") == file_name("./a/b.png") == "a/b.png"
    assert file_name("s3://bucket/b.png") == "s3://bucket/b.png"
    assert [file_name(path) for path in ("/data/b.png", "C:\\data\\b.png", "~/b.png")] == [""] * 3
    assert (
        example_id("r", "Broken?", None, "ab")
        == example_id("r", "Broken?", None, "ab")
        != example_id("r", "", None, "ab")
    )
