"""Several annotators' answers to one question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import table
from finetune_assets.dataset.sources.votes import Vote, counted
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer
from finetune_assets.task.sources import TableSource

BROKEN = BinaryAnswer(kind="binary")


def votes(*answers: str, question: str = "Broken?") -> list[Vote]:
    return [
        Vote(Example(id="i", region="r", source="f", question=question, answer=answer), f"annotator {number}")
        for number, answer in enumerate(answers)
    ]


def one(*answers: str, answer: Answer = BROKEN, min_agreement: float = 0.5) -> Example:
    [found] = counted(votes(*answers), answer, min_agreement)
    return found


def test_the_majority_is_the_label_and_the_positive_share_the_score() -> None:
    found = one("No", "Yes", "Yes")
    assert (found.answer, found.score, found.doubt) == ("Yes", pytest.approx(2 / 3), None)


def test_a_tie_is_doubtful_and_has_no_answer() -> None:
    found = one("No", "Yes")
    assert (found.answer, found.score, found.doubt) == (None, None, "the 2 votes are tied: 1 No, 1 Yes")


def test_a_small_majority_is_doubtful_where_the_task_wants_a_larger_one() -> None:
    assert one("No", "Yes", "Yes", min_agreement=0.7).doubt == "only 2 of 3 votes agree: 2 Yes, 1 No"


def test_of_one_person_only_the_last_answer_counts() -> None:
    first, second, *others = votes("Yes", "No", "No")
    [found] = counted([first, second, *others, Vote(second.example, first.by)], BROKEN, 0.5)
    assert (found.answer, found.score) == ("No", 0)


def test_numbers_and_choices_keep_the_score_of_the_majority() -> None:
    rows = [
        Vote(Example(id="i", region="r", source="f", answer=str(n), score=n), str(k)) for k, n in enumerate([1, 2, 2])
    ]
    [found] = counted(rows, NumberAnswer(kind="number"), 0.5)
    assert (found.answer, found.score) == ("2", 2)
    assert (
        one("mild", "mild", "severe", answer=ChoiceAnswer(kind="choice", options=["mild", "severe"])).answer == "mild"
    )


@given(st.lists(st.sampled_from(["Yes", "No"]), min_size=1, max_size=9))
def test_the_order_of_the_votes_makes_no_difference(answers: list[str]) -> None:
    forward, backward = one(*answers), one(*reversed(answers))
    assert (forward.answer, forward.score) == (backward.answer, backward.score)


def test_rows_of_a_table_are_votes_where_it_names_who_answered(tmp_path: Path) -> None:
    lines = ["q,who,label,region", "A?,ann,Yes,r", "B?,ann,No,r", "A?,bob,Yes,r", "A?,cid,No,r", "B?,bob,,r"]
    (tmp_path / "votes.csv").write_text("\n".join(lines) + "\n")
    fields = {"kind": "table", "path": str(tmp_path / "votes.csv"), "question": "{q}", "answer": "{label}"}
    source = TableSource.model_validate(fields | {"annotator": "{who}"})
    empty, first, second = table.read(source, "r", BROKEN)
    assert (first.question, first.answer, first.score) == ("A?", "Yes", pytest.approx(2 / 3))
    assert (second.question, second.answer, second.score) == ("B?", "No", 0)
    assert empty.problem == "empty_answer", "a row without an answer is no vote, and is told"


def test_one_person_votes_once_however_spelt_and_a_vote_of_nobody_is_set_aside(tmp_path: Path) -> None:
    lines = ["q,who,label,region", "A?,R-1,Yes,r", "A?,r1,No,r", "A?,R2,No,r", "A?,,Yes,r"]
    (tmp_path / "votes.csv").write_text("\n".join(lines) + "\n")
    fields = {"kind": "table", "path": str(tmp_path / "votes.csv"), "question": "{q}", "answer": "{label}"}
    nobody, found = table.read(TableSource.model_validate(fields | {"annotator": "{who}"}), "r", BROKEN)
    assert (found.answer, found.score) == ("No", 0)
    assert (nobody.problem, nobody.detail) == ("missing_field", "line 5 has no who, so nobody knows whose answer it is")


def several(folder: Path, *lines: str, **changes: Any) -> list[Example]:
    (folder / "readers.csv").write_text("\n".join(["q,reader 1,reader 2,reader 3,region", *lines]) + "\n")
    fields = {"kind": "table", "path": str(folder / "readers.csv"), "question": "{q}"}
    answers = ["{reader 1}", "{reader 2}", "{reader 3}"]
    return list(table.read(TableSource.model_validate(fields | {"answers": answers} | changes), "r", BROKEN))


def test_columns_of_several_people_are_votes(tmp_path: Path) -> None:
    lines = ["A?,Yes,Yes,No,r", "B?,No,,No,r", "C?,Yes,No,,r", "D?,No,No,No,other"]
    first, second, third = several(tmp_path, *lines)
    assert (first.answer, first.score) == ("Yes", pytest.approx(2 / 3))
    assert (second.answer, second.score, second.doubt) == ("No", 0, None), "who said nothing has no vote"
    assert third.answer is None and third.doubt == "the 2 votes are tied: 1 Yes, 1 No"


def test_a_row_in_which_nobody_answered_or_one_answer_means_nothing_is_set_aside_once(tmp_path: Path) -> None:
    values = {"1": "Yes", "0": "No"}
    nobody, unknown = several(tmp_path, "A?,,,,r", "B?,1,maybe,1,r", values=values)
    assert (nobody.problem, nobody.detail) == ("empty_answer", "line 2 has no reader 1")
    assert unknown.problem == "unparseable_answer" and "'maybe' is none of the cells" in (unknown.detail or "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"answer": "{a}", "answers": ["{a}", "{b}"]}, "answer and answers exclude each other"),
        ({"annotator": "{a}", "answers": ["{a}", "{b}"]}, "annotator and answers exclude each other"),
        ({"answers": ["{a}", "{a}"]}, "answers must be different columns"),
        ({"answers": ["{a}"]}, "at least 2"),
        ({"answers": ["a", "b"]}, "must name a column in braces"),
    ],
)
def test_answers_of_several_people_that_make_no_sense_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TableSource.model_validate({"kind": "table", "path": "a.csv"} | changes)
