from __future__ import annotations

from pathlib import Path

import pytest

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import image_folder
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import ImageFolderSource
from finetune_assets.task.answers import ChoiceAnswer
from finetune_assets_tests.dataset.pictures import picture, put

CLASSES = ChoiceAnswer(kind="choice", options=["crack", "fine"])


def read(folder: Path, of: str = "all", **settings: object) -> list[Example]:
    fields: dict[str, object] = {"kind": "image_folder", "path": str(folder), "region": "all"}
    return list(image_folder.read(ImageFolderSource.model_validate(fields | settings), of, CLASSES))


def test_the_folder_of_an_image_is_its_class(tmp_path: Path) -> None:
    for name in ("crack/1.png", "crack/2.JPG", "fine/1.png", "fine/notes.txt", ".cache/fine/3.png"):
        put(tmp_path / name, picture())
    found = read(tmp_path)
    assert [(example.answer, Path(str(example.image)).name) for example in found] == [
        ("crack", "1.png"),
        ("crack", "2.JPG"),
        ("fine", "1.png"),
    ]
    assert {example.question for example in found} == {"What does this image show?"}
    assert len({example.id for example in found}) == 3


def test_published_splits_are_no_classes_and_may_be_used(tmp_path: Path) -> None:
    for name in ("train/crack/1.png", "val/fine/2.png", "test/crack/3.png"):
        put(tmp_path / name, picture())
    found = read(tmp_path, split="{split}")
    assert [(example.answer, example.published) for example in found] == [
        ("crack", "test"),
        ("crack", "train"),
        ("fine", "validation"),
    ]


def test_folders_above_the_class_may_be_regions_and_groups(tmp_path: Path) -> None:
    for name in ("Berlin/m1/crack/1.png", "Berlin/m2/fine/1.png", "Paris/m3/fine/1.png"):
        put(tmp_path / name, picture())
    found = read(tmp_path, "berlin", region="{folders.0}", group="{folders.1}")
    assert [(example.answer, example.group) for example in found] == [("crack", "m1"), ("fine", "m2")]


def test_classes_may_be_called_otherwise(tmp_path: Path) -> None:
    put(tmp_path / "0" / "a.png", picture())
    put(tmp_path / "7" / "b.png", picture())
    good, bad = read(tmp_path, values={"0": "fine", "1": "crack"})
    assert good.answer == "fine"
    assert (bad.problem, bad.detail) == (
        "unparseable_answer",
        "image 2: '7' is none of the cells in source.values: 0, 1",
    )


def test_an_image_in_no_folder_is_set_aside(tmp_path: Path) -> None:
    put(tmp_path / "loose.png", picture())
    put(tmp_path / "train" / "also.png", picture())
    assert [example.detail for example in read(tmp_path)] == [
        "loose.png lies in no folder of a class",
        "train/also.png lies in no folder of a class",
    ]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no image; each must lie in the folder of its class"):
        read(tmp_path)


def test_links_are_followed_and_told_where_they_lead_out_or_nowhere(tmp_path: Path) -> None:
    for name in ("elsewhere/1.png", "data/fine/2.png", "data/old/crack/3.png", "data/fine/4.heic"):
        put(tmp_path / name, picture())
    (tmp_path / "data" / "crack").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "fine" / "5.png").symlink_to(tmp_path / "data" / "gone.png")
    (tmp_path / "data" / "fine" / "up").symlink_to(tmp_path / "data")
    found = {Path(example.source).name + str(example.detail): example.problem for example in read(tmp_path / "data")}
    told = sorted(detail for detail in found if "leads out" in detail)
    assert len(told) == 1 and "'crack/1.png' leads out of the folder" in told[0]
    names = sorted(Path(str(example.image)).name for example in read(tmp_path / "data") if example.problem is None)
    assert names == ["2.png", "3.png", "4.heic", "5.png"], "the last two are set aside once they are looked at"
