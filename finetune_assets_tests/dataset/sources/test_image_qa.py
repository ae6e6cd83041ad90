from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import image_qa
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.sources import ImageQaSource

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def entry(answer: object = 1, **fields: object) -> dict[str, object]:
    pair = {"question": "Is A above B?", "answer": answer}
    return {"filename": "ct_1.png", "organ": "Liver", "question_answer": [pair], **fields}


def read(folder: Path, entries: object, answer: BinaryAnswer = ANSWER, **settings: object) -> list[Example]:
    (folder / "qa.json").write_bytes(entries if isinstance(entries, bytes) else orjson.dumps(entries))
    (folder / "pictures").mkdir(exist_ok=True)
    known = {"kind": "image_qa", "path": str(folder / "qa.json"), "images": "pictures", "region_field": "organ"}
    return list(image_qa.read(ImageQaSource.model_validate(known | settings), "liver", answer))


def test_an_entry_becomes_one_example_a_question(tmp_path: Path) -> None:
    pairs = [{"question": "Is A above B? ", "answer": 1}, {"question": "Is B above A?", "answer": 0}]
    first, second = read(tmp_path, [entry(question_answer=pairs, group=7)])
    assert (first.question, first.answer, first.score, first.group) == ("Is A above B?", "Yes", 1.0, "7")
    assert (second.question, second.answer, second.score) == ("Is B above A?", "No", 0.0)
    assert first.image == second.image == str(tmp_path / "pictures" / "ct_1.png")
    assert first.id != second.id


PAIR = {"question": "Is A above B?", "answer": 1}


@pytest.mark.parametrize(
    "entries",
    [
        {"images": [entry()]},
        {"ct_1.png": [PAIR]},
        {"ct_1.png": PAIR},
        {"above": [entry(question_answer={"above": PAIR})], "below": []},
        [{"filename": "ct_1.png", **PAIR}],
    ],
)
def test_entries_and_questions_may_be_held_together_in_other_ways(tmp_path: Path, entries: object) -> None:
    [usual] = read(tmp_path, [entry()], region_field=None, region="liver")
    assert read(tmp_path, entries, region_field=None, region="liver") == [usual]


@pytest.mark.parametrize("found", [1, 1.0, True, "1", "yes", " YES ", "true"])
def test_a_positive_answer_may_be_spelt_in_many_ways(tmp_path: Path, found: object) -> None:
    assert [example.answer for example in read(tmp_path, [entry(found)])] == ["Yes"]


def test_the_words_of_the_task_come_before_other_spellings(tmp_path: Path) -> None:
    turned = BinaryAnswer(kind="binary", positive="No", negative="Yes")
    assert [e.answer for e in read(tmp_path, [entry("no"), entry("yes"), entry(1)], turned)] == ["No", "Yes", "No"]


@pytest.mark.parametrize(
    ("bad", "problem", "detail"),
    [
        (entry("perhaps"), "unparseable_answer", "yes or no, 1 or 0, found the text 'perhaps'"),
        (entry(2), "unparseable_answer", "found a number (2)"),
        (entry(None), "empty_answer", "entry 1: the answer is empty; it must be Yes or No"),
        (entry(" "), "empty_answer", "the answer is empty"),
        ({"image": "ct_1.png", "qa": []}, "missing_field", "entry 1 has no filename; its keys are image, qa"),
        (entry(question_answer=[]), "missing_field", "entry 1 (ct_1.png) has no question_answer; its keys are"),
        (entry(question_answer=["?"]), "missing_field", "entry 1 (ct_1.png) has no question"),
        (entry(organ=None), "missing_field", "entry 1 has no organ"),
        ("text", "malformed_line", "entry 1 must be an object, found the text 'text'"),
    ],
)
def test_a_bad_entry_says_what_is_wrong_and_hides_no_other(
    tmp_path: Path, bad: object, problem: str, detail: str
) -> None:
    found, good = read(tmp_path, [bad, entry(filename="ct_2.png")])
    assert (found.problem, found.answer) == (problem, None)
    assert detail in found.detail
    assert good.problem is None


def test_the_region_may_come_from_the_file_name(tmp_path: Path) -> None:
    entries = [entry(filename="Liver_1.png"), entry(filename="spleen_1.png"), entry(filename="1.png")]
    found = read(tmp_path, entries, region_field=None, region_pattern="^([A-Za-z]+)_")
    assert [(example.problem, example.image) for example in found] == [
        (None, str(tmp_path / "pictures" / "Liver_1.png")),
        ("missing_field", None),
    ]


def test_the_region_may_come_from_the_question(tmp_path: Path) -> None:
    asked = ["Is A above B?", "Is the right lung (A) to the left of B?", "Is A liver?", "Is A in the LIVER?"]
    entries = [entry(question_answer=[{"question": question, "answer": 1} for question in asked])]
    found = read(tmp_path, entries, region_field=None, region_from_question=r"(above|below)|the ([A-Z]+)")
    assert [(e.question, e.problem) for e in found] == [("", "missing_field"), ("", "missing_field"), (asked[3], None)]
    assert "entry 1 has no question that matches" in found[0].detail


def test_the_region_may_stand_with_the_question(tmp_path: Path) -> None:
    pairs = [{"question": "A?", "answer": 1, "organ": "liver"}, {"question": "B?", "answer": 1, "organ": "spleen"}]
    assert [e.question for e in read(tmp_path, [entry(question_answer=pairs)])] == ["A?"]


@pytest.mark.parametrize(
    "pairs", [{"question": "A?", "answer": "TRUE"}, [["A?", "yes."]], [{"question": "A?", "answer": 1}]]
)
def test_a_question_with_its_answer_may_be_an_object_or_a_pair(tmp_path: Path, pairs: object) -> None:
    assert [(e.question, e.answer) for e in read(tmp_path, [entry(question_answer=pairs)])] == [("A?", "Yes")]


def test_one_task_may_take_several_files_each_with_its_own_folder_of_images(tmp_path: Path) -> None:
    for marker in ("dots", "numbers"):
        (tmp_path / f"image_{marker}").mkdir()
        (tmp_path / f"qa_{marker}.json").write_bytes(orjson.dumps([entry()]))
    settings = {"kind": "image_qa", "path": str(tmp_path / "qa_*.json"), "images": "image_*"}
    by_marker = ImageQaSource.model_validate(settings | {"region_from_path": "qa_(.+)[.]json"})
    assert set(image_qa.regions(by_marker)) == {"dots", "numbers"}
    [made] = image_qa.read(by_marker, "numbers", ANSWER)
    assert made.image == str(tmp_path / "image_numbers" / "ct_1.png")
    together = ImageQaSource.model_validate(settings | {"region": "all"})
    ids = [e.id for e in image_qa.read(together, "all", ANSWER)]
    assert len(set(ids)) == len(ids) == 2, "one file name in two folders is two images"


def test_a_star_in_the_image_folder_needs_one_in_the_path() -> None:
    with pytest.raises(ValidationError, match=r"the \* of images stands for the one in the name of path"):
        ImageQaSource(kind="image_qa", path="qa.json", images="image_*", region="all")


def test_a_group_of_the_pattern_that_took_no_part_is_passed_over(tmp_path: Path) -> None:
    entries = [entry(question_answer=[{"question": "Is A to the left of B?", "answer": 1}])]
    (tmp_path / "qa.json").write_bytes(orjson.dumps(entries))
    settings = {
        "path": str(tmp_path / "qa.json"),
        "images": "i",
        "region_from_question": "(above)|to the (left|right) of",
    }
    source = ImageQaSource.model_validate({"kind": "image_qa", **settings})
    assert list(image_qa.regions(source)) == ["left"]


def test_all_entries_may_be_of_one_region(tmp_path: Path) -> None:
    assert [e.problem for e in read(tmp_path, [entry(), entry()], region_field=None, region="liver")] == [None, None]


def test_a_pattern_on_the_file_name_groups_the_images_of_one_patient(tmp_path: Path) -> None:
    names = ["ct_1_slice2.png", "ct_1_slice3.png", "other.png"]
    found = read(tmp_path, [entry(filename=name) for name in names], group_pattern="^(.+)_slice")
    assert [example.group for example in found] == ["ct1", "ct1", None]


@pytest.mark.parametrize(("pattern", "message"), [("(", "not a regular expression"), ("ct_", "needs a group")])
def test_a_pattern_that_cannot_name_a_region_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read(tmp_path, [entry()], region_field=None, region_pattern=pattern)


def test_an_image_folder_that_is_not_there_is_refused_once_and_for_all(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"photos: there is no such folder; source\.images is relative to"):
        read(tmp_path, [entry()], images="photos")


def test_a_file_that_is_no_list_of_entries_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"qa\.json: line 2, column 1"):
        read(tmp_path, b"[\n")
    with pytest.raises(SourceError, match="must be a list of entries, found an object with the keys data"):
        read(tmp_path, {"data": []})
    with pytest.raises(SourceError, match=r"there is no file or folder at .*none\.json"):
        read(tmp_path, [], path=str(tmp_path / "none.json"))


def test_an_entry_may_say_in_which_split_it_was_published(tmp_path: Path) -> None:
    entries = [entry(filename=f"ct_{n}.png", fold=fold) for n, fold in enumerate(["train", "held", None])]
    found = read(tmp_path, entries, split_field="fold", splits={"train": "train", "held": "test"})
    assert [example.published for example in found] == ["train", "test", None]
    assert [example.problem for example in found] == [None, None, "missing_field"]
    with pytest.raises(SourceError, match="'held', which is none of train, .*; say under `source`"):
        read(tmp_path, entries, split_field="fold")
