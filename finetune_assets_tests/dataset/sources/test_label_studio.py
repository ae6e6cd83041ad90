from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import label_studio
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import LabelStudioSource
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer

BROKEN = BinaryAnswer(kind="binary")


def vote(choice: object, by: Any = 1, kind: str = "choices", control: str = "broken", **more: Any) -> dict[str, Any]:
    value = {kind: [choice] if kind == "choices" else choice}
    return {"completed_by": by, "result": [{"type": kind, "from_name": control, "value": value}], **more}


def read(tmp_path: Path, *tasks: dict[str, Any], answer: Answer = BROKEN, **settings: object) -> list[Example]:
    (tmp_path / "export.json").write_text(json.dumps(list(tasks)))
    fields: dict[str, object] = {"kind": "label_studio", "path": str(tmp_path / "export.json"), "region": "all"}
    source = LabelStudioSource.model_validate(fields | settings)
    return list(label_studio.read(source, "all", answer))


def task(image: str, *annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"image": image, **data}, "annotations": list(annotations)}


def test_the_choice_of_a_completed_annotation_is_the_answer(tmp_path: Path) -> None:
    [found] = read(tmp_path, task("a.png", vote("Yes")))
    assert (found.answer, found.score, found.image) == ("Yes", 1, str(tmp_path / "a.png"))


def test_cancelled_annotations_are_left_out(tmp_path: Path) -> None:
    [kept, gone] = read(
        tmp_path,
        task("a.png", vote("No", was_cancelled=True), vote("Yes")),
        task("b.png", vote("No", was_cancelled=True)),
    )[::-1]
    assert kept.answer == "Yes"
    assert (gone.problem, gone.detail) == ("empty_answer", "entry 2 has no answer")


def test_several_annotators_vote(tmp_path: Path) -> None:
    by = [vote("Yes", {"id": 1, "email": "a@x.org"}), vote("No", {"id": 2, "email": "b@x.org"}), vote("Yes", 3)]
    majority, tie = read(tmp_path, task("a.png", *by), task("b.png", *by[:2]))
    assert (majority.answer, majority.score) == ("Yes", pytest.approx(2 / 3))
    assert tie.doubt == "the 2 votes are tied: 1 Yes, 1 No"


@pytest.mark.parametrize("address", ["/data/upload/3/a.png", "/data/local-files/?d=upload/3/a.png", "upload/3/a.png"])
def test_addresses_of_its_server_are_files_beside_the_export(tmp_path: Path, address: str) -> None:
    [found] = read(tmp_path, task(address, vote("Yes")))
    assert found.image == str(tmp_path / "upload" / "3" / "a.png")


def test_uploads_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    [found] = read(tmp_path, task("/data/upload/3/a.png", vote("Yes")), images="media")
    assert found.image == str(tmp_path / "media" / "upload" / "3" / "a.png")


@pytest.mark.parametrize("place", ["a b.png", "3/a b.png", "upload/a b.png", "upload/3/a b.png"])
@pytest.mark.parametrize("address", ["/data/upload/3/a b.png", "/data/local-files/?d=upload/3/a%20b.png"])
def test_uploads_may_have_lost_their_outer_folders(tmp_path: Path, place: str, address: str) -> None:
    (tmp_path / "media" / place).parent.mkdir(parents=True)
    (tmp_path / "media" / place).touch()
    [found] = read(tmp_path, task(address, vote("Yes")), images="media")
    assert found.image == str(tmp_path / "media" / place)


def test_two_uploads_are_never_taken_for_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    two = [task(f"/data/upload/{project}/a.png", vote("Yes")) for project in (1, 2)]
    with pytest.raises(SourceError, match=r"/data/upload/1/a.png and /data/upload/2/a.png would both be a.png"):
        read(tmp_path, *two)


def test_the_data_of_a_task_are_columns(tmp_path: Path) -> None:
    tasks = [task("a.png", vote("Yes"), part="All", patient=3)]
    [found] = read(tmp_path, *tasks, region="{data.part}", group="{patient}", question="Is {part} broken?")
    assert (found.question, found.group) == ("Is All broken?", "3")


def test_of_several_controls_one_has_to_be_named(tmp_path: Path) -> None:
    both = task("a.png", vote("Yes"), vote(4, kind="rating", control="stars"))
    with pytest.raises(SourceError, match=r"several controls were answered \(broken, stars\); say which by `control`"):
        read(tmp_path, both)
    [stars] = read(tmp_path, both, answer=NumberAnswer(kind="number", decimals=0), control="stars")
    assert stars.score == 4


def test_several_choices_at_once_are_no_answer(tmp_path: Path) -> None:
    both = vote("Yes")
    both["result"][0]["value"]["choices"] = ["Yes", "No"]
    [found] = read(tmp_path, task("a.png", both))
    assert found.problem == "unparseable_answer"


def test_an_entry_that_is_no_task_hides_no_other(tmp_path: Path) -> None:
    broken, kept = read(tmp_path, {"annotations": 3}, task("a.png", vote("Yes")))
    assert (broken.problem, kept.answer) == ("malformed_line", "Yes")
