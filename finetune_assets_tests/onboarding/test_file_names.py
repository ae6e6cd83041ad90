"""Region and group that names of images tell, and names that tell none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finetune_assets.dataset.identity import matched
from finetune_assets.onboarding.file_names import group_pattern, parted, region_folder, region_pattern


def found(pattern: str | None, name: str) -> str:
    assert pattern is not None
    match = re.search(pattern, name)
    return matched(match) if match else ""


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("north_P{n:03}_slice{slice:02}.png", "P007"),
        ("scans/patient{n}/{slice}.png", "patient7"),
        ("img-case{n}-{slice}.jpeg", "case7"),
        ("Paciente{n} corte {slice}.png", "Paciente7"),
    ],
)
def test_a_numbered_word_for_a_patient_is_a_group(name: str, group: str) -> None:
    names = [name.format(n=n, slice=slice_) for n in range(10) for slice_ in range(3)]
    assert found(group_pattern(names), name.format(n=7, slice=2)) == group


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"slice{n}_a{k}.png" for n in range(9) for k in range(3)], id="no word for a patient"),
        pytest.param([f"P{n}.png" for n in range(30)], id="each has one image"),
        pytest.param([f"P{n}_{k}.png" for n in range(2) for k in range(15)], id="too few groups for the splits"),
        pytest.param([f"P{n}_{k}.png" for n in range(9) for k in range(3)] + ["other.png"], id="not in all names"),
        pytest.param([], id="no images"),
    ],
)
def test_names_that_tell_no_group_clearly_tell_none(names: list[str]) -> None:
    assert group_pattern(names) is None


def named(*words: str, answers: str = "yn", n: int = 120) -> list[tuple[str, str]]:
    return [(f"/data/{words[k % len(words)]}_{k}.png", answers[k // len(words) % len(answers)]) for k in range(n)]


def test_a_word_at_one_place_of_all_names_is_a_region() -> None:
    pattern = region_pattern(named("north", "south"), 40)
    assert found(pattern, "/data/north_12.png") == "north"
    assert found(pattern, "data\\east_1.png") == "east"
    later = [(name.replace("/data/", "/data/img_"), answer) for name, answer in named("north", "south")]
    assert found(region_pattern(later, 40), "/data/img_north_12.png") == "north"


@pytest.mark.parametrize(
    ("pictured", "least"),
    [
        (named("north", "south", answers="y"), 40),
        (named("train", "test"), 40),
        (named("north", "south"), 80),
        (named("north"), 40),
        ([*named("north", "south"), ("odd.png", "y")], 40),
    ],
    ids=["it may be the answer", "splits", "too few of each", "one alone", "not in all names"],
)
def test_words_that_may_be_something_else_are_no_region(pictured: list[tuple[str, str]], least: int) -> None:
    assert region_pattern(pictured, least) is None


def in_folders(*regions: str, n: int = 50) -> list[tuple[str, str]]:
    return [
        (f"/data/{name}/{answer}/{k}.png", answer) for name in regions for answer in ("ok", "nok") for k in range(n)
    ]


def test_a_folder_above_those_of_the_classes_is_a_region() -> None:
    assert region_folder(in_folders("front", "back"), Path("/data"), 40) == "folders.0"
    assert region_folder(in_folders("train/line 1", "train/line 2"), Path("/data"), 40) == "folders.1"


@pytest.mark.parametrize("folders", [("train", "test"), ("P001", "P002", "P003"), ("all",), (".",)])
def test_folders_of_splits_and_patients_are_no_regions(folders: tuple[str, ...]) -> None:
    assert region_folder(in_folders(*folders), Path("/data"), 40) is None


def test_folders_that_hold_one_class_alone_are_no_regions() -> None:
    one = [row for row in in_folders("front", "back") if ("front" in row[0]) == (row[1] == "ok")]
    assert region_folder(one, Path("/data"), 40) is None


def test_a_column_may_be_said_with_a_pattern() -> None:
    assert parted("{file} by (P[0-9]+)_") == ("{file}", "(P[0-9]+)_")
    assert parted("site") == ("site", None)
