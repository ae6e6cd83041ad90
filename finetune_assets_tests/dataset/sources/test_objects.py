"""Drawn objects as questions about the whole image: the same of COCO, VOC and YOLO."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.dataset import sources
from finetune_assets.dataset.example import Example
from finetune_assets.errors import SourceError
from finetune_assets.task import Task
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.pipeline.tasks import make_task

NAMES = ["crack", "spall"]
IMAGES = {"a.png": ["crack", "crack"], "b.png": ["spall"], "c.png": [], "d.png": ["crack", "spall"]}
Write = Callable[[Path, Mapping[str, Sequence[str]]], dict[str, Any]]


def coco(folder: Path, images: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    found = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(images)],
        "categories": [{"id": 10 + number, "name": name} for number, name in enumerate(NAMES)],
        "annotations": [
            {"image_id": number, "category_id": 10 + NAMES.index(name), "bbox": [0, 0, 1, 1]}
            for number, names in enumerate(images.values())
            for name in names
        ],
    }
    (folder / "instances.json").write_text(json.dumps(found))
    for name in images:
        put(folder / "pictures" / name, picture())
    return {"kind": "coco", "path": str(folder / "instances.json"), "images": "pictures"}


def voc(folder: Path, images: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    (folder / "Annotations").mkdir()
    for name, names in images.items():
        objects = "".join(f"<object><name>{each}</name><difficult>0</difficult></object>" for each in names)
        xml = f"<annotation><filename>{name}</filename>{objects}</annotation>"
        (folder / "Annotations" / f"{Path(name).stem}.xml").write_text(xml)
        put(folder / "JPEGImages" / name, picture())
    return {"kind": "voc", "path": str(folder)}


def yolo(folder: Path, images: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    (folder / "data.yaml").parent.mkdir(exist_ok=True)
    (folder / "data.yaml").write_text(json.dumps({"names": dict(enumerate(NAMES))}))
    (folder / "labels" / "train").mkdir(parents=True)
    for name, names in images.items():
        lines = "".join(f"{NAMES.index(each)} 0.5 0.5 0.1 0.1\n" for each in names)
        (folder / "labels" / "train" / f"{Path(name).stem}.txt").write_text(lines)
        put(folder / "images" / "train" / name, picture())
    return {"kind": "yolo", "path": str(folder)}


@pytest.fixture(params=[coco, voc, yolo])
def write(request: pytest.FixtureRequest) -> Write:
    return request.param


def task(source: dict[str, Any], answer: Answer, **settings: Any) -> Task:
    return make_task(regions=["all"], source={**source, "region": "all", **settings}, answer=answer.model_dump())


def read(source: dict[str, Any], answer: Answer, **settings: Any) -> list[Example]:
    asked = task(source, answer, **settings)
    return list(sources.read(asked.source, "all", asked.answer))


def test_is_there_one(tmp_path: Path, write: Write) -> None:
    found = read(write(tmp_path, IMAGES), BinaryAnswer(kind="binary"), category="crack")
    assert [example.answer for example in found] == ["Yes", "No", "No", "Yes"]
    assert {example.question for example in found} == {"Is there a crack in this image?"}
    assert all(Path(str(example.image)).is_file() for example in found)


def test_how_many_are_there(tmp_path: Path, write: Write) -> None:
    source = write(tmp_path, IMAGES)
    found = read(source, NumberAnswer(kind="number", decimals=0), category="crack", question="How many cracks?")
    assert [example.score for example in found] == [2, 0, 0, 1]


def test_which_one_is_it(tmp_path: Path, write: Write) -> None:
    which = ChoiceAnswer(kind="choice", options=NAMES)
    found = read(write(tmp_path, IMAGES), which, question="Which damage?")
    assert [example.answer for example in found if not example.problem] == ["crack", "spall"]
    assert [example.problem for example in found if example.problem] == ["empty_answer", "empty_answer"]


def test_one_of_several_categories_has_to_be_named(tmp_path: Path, write: Write) -> None:
    source = write(tmp_path, IMAGES)
    with pytest.raises(SourceError, match="has the categories crack, spall; say by `category`"):
        read(source, BinaryAnswer(kind="binary"))
    with pytest.raises(SourceError, match="has no category 'hole'; it has crack, spall"):
        read(source, BinaryAnswer(kind="binary"), category="hole")


def test_a_crowd_is_there_and_cannot_be_counted(tmp_path: Path) -> None:
    source = coco(tmp_path, {"a.png": ["crack"]})
    written = json.loads((tmp_path / "instances.json").read_text())
    written["annotations"][0]["iscrowd"] = 1
    (tmp_path / "instances.json").write_text(json.dumps(written))
    [there] = read(source, BinaryAnswer(kind="binary"), category="crack")
    [counted] = read(source, NumberAnswer(kind="number"), category="crack", question="How many?")
    assert (there.answer, counted.problem) == ("Yes", "empty_answer")


def test_an_annotation_of_no_image_is_refused(tmp_path: Path) -> None:
    source = coco(tmp_path, {"a.png": ["crack"]})
    written = json.loads((tmp_path / "instances.json").read_text())
    written["annotations"][0]["image_id"] = 99
    (tmp_path / "instances.json").write_text(json.dumps(written))
    with pytest.raises(SourceError, match="annotation 1 names image 99 and category 10; the file does not have both"):
        read(source, BinaryAnswer(kind="binary"), category="crack")


def test_an_image_without_a_file_of_labels_is_set_aside(tmp_path: Path) -> None:
    source = yolo(tmp_path, {"a.png": ["crack"]})
    put(tmp_path / "images" / "train" / "b.png", picture())
    kept, aside = sorted(read(source, BinaryAnswer(kind="binary"), category="crack"), key=lambda e: bool(e.problem))
    assert kept.answer == "Yes"
    assert aside.detail == "images/train/b.png has no file of labels; an image without objects has an empty one"


def test_a_line_of_labels_that_is_none_is_told(tmp_path: Path) -> None:
    source = yolo(tmp_path, {"a.png": ["crack"], "b.png": []})
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 1 1 1 1\ncrack 1 1 1 1\n")
    found, _ = read(source, BinaryAnswer(kind="binary"), category="crack")
    assert found.detail == "a.txt, line 2: must begin with a class, 0 to 1, found 'crack 1 1 1 1'"


def test_published_splits_of_each_layout_may_be_used(tmp_path: Path) -> None:
    found = read(yolo(tmp_path, IMAGES), BinaryAnswer(kind="binary"), category="crack", split="{split}")
    assert {example.published for example in found} == {"train"}


def test_entities_of_xml_are_refused(tmp_path: Path) -> None:
    source = voc(tmp_path, {"a.png": ["crack"], "b.png": []})
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation><filename>&b;</filename></annotation>'
    (tmp_path / "Annotations" / "b.xml").write_text(bomb)
    kept, aside = read(source, BinaryAnswer(kind="binary"), category="crack")
    assert (kept.answer, aside.problem) == ("Yes", "malformed_line")


def test_images_of_coco_may_lie_beside_the_folder_of_annotations(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    settings = coco(tmp_path / "annotations", {"a.png": ["crack"]})
    (tmp_path / "annotations" / "pictures").rename(tmp_path / "pictures")
    task = make_task(source=settings | {"images": "../pictures", "category": "crack", "region": "all"})
    [found] = sources.read(task.source, "all", task.answer)
    assert (found.problem, found.answer) == (None, "Yes")
    assert Path(str(found.image)).resolve() == tmp_path / "pictures" / "a.png"


def test_what_is_only_hard_to_tell_is_not_certain(tmp_path: Path) -> None:
    source = voc(tmp_path, {"a.png": ["crack"], "b.png": ["crack", "crack"]})
    for name in ("a", "b"):
        file = tmp_path / "Annotations" / f"{name}.xml"
        file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    hard, there = read(source, BinaryAnswer(kind="binary"), category="crack")
    assert (hard.problem, there.answer) == ("empty_answer", "Yes")


def test_images_with_one_id_and_categories_that_look_alike_are_refused(tmp_path: Path) -> None:
    source = coco(tmp_path, {"a.png": ["crack"], "b.png": []})
    file = tmp_path / "instances.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written | {"categories": [*written["categories"], {"id": 9, "name": "Crack"}]}))
    with pytest.raises(SourceError, match="has the categories 'crack' and 'Crack'; call them the same, or apart"):
        read(source, BinaryAnswer(kind="binary"), category="crack")
    written["images"][1]["id"] = written["images"][0]["id"]
    file.write_text(json.dumps(written))
    with pytest.raises(SourceError, match="2 images have the id 0; give each its own"):
        read(source, BinaryAnswer(kind="binary"), category="crack")


def test_a_question_that_its_answers_do_not_answer_is_refused_early(tmp_path: Path) -> None:
    source = coco(tmp_path, IMAGES)
    with pytest.raises(ValueError, match='asks whether there is one, and answer.kind is number: write question: "How'):
        task(source, NumberAnswer(kind="number"), category="crack")
    with pytest.raises(ValueError, match='names the category, which is the answer: write question: "Which'):
        task(source, ChoiceAnswer(kind="choice", options=NAMES))
