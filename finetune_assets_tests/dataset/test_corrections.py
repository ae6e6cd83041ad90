"""Reviewers' decisions applied to sampled examples: labels and doubts change, splits never."""

import tempfile
from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.corrections import DTYPES, PROVENANCE, Outcome, Reviewed
from finetune_assets.dataset.filtering import filter_examples
from finetune_assets.dataset.identity import content
from finetune_assets.dataset.sampling import DTYPES as SAMPLED
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.task import SPLITS, Filtering
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer, TextAnswer

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")
Row = dict[str, Any]


def row(name: str, **fields: object) -> Row:
    known = {"example_id": name, "split": "train", "question": "Defective?", "answer": "Yes", "score": 1.0}
    return {**dict.fromkeys(SAMPLED), **known, "image_sha256": name, "detail": "", **fields}


def decision(example: Row, answer: str | None, **fields: object) -> Row:
    shown = content(example["question"], example["system"], example["image_sha256"])
    known = {"example_id": example["example_id"], "content": shown, "answer": answer, "reviewed_by": "anna"}
    known |= {"reviewed_at": "2027-01-02T03:04:05+00:00", "n_judgements": 1, "blind": False, "queue": "doubtful"}
    return {**dict.fromkeys(DTYPES), **known, **fields}


def table(folder: str, rows: list[Row]) -> Table:
    return write_table(UPath(folder) / "s.parquet", pd.DataFrame(rows, columns=list(SAMPLED)).astype(SAMPLED))


def apply(rows: list[Row], decided: list[Row], answer: Answer = ANSWER) -> tuple[pd.DataFrame, Counter[Any]]:
    """The rows as they read afterwards, and what became of the decisions."""
    with tempfile.TemporaryDirectory() as folder:
        reviewed = Reviewed.of(table(folder, rows), pd.DataFrame(decided, columns=list(DTYPES)).astype(DTYPES), answer)
        return pd.concat(reviewed.chunks()).set_index("example_id"), reviewed.outcomes


def test_a_corrected_label_replaces_the_source_s_and_says_by_whom() -> None:
    one = row("a", score=0.66)
    after, outcomes = apply([one, row("b")], [decision(one, "No")])
    assert after.loc["a", ["answer", "score", *PROVENANCE]].tolist() == [
        *("No", 0.0, "review", "Yes", 0.66, "anna", "2027-01-02T03:04:05+00:00", "doubtful")
    ]
    assert after.loc["b", ["answer", "score", "label_from"]].tolist() == ["Yes", 1.0, "source"]
    assert after.loc["b", ["source_answer", "source_score"]].tolist() == ["Yes", 1.0]
    assert after.loc["b", ["reviewed_in", "reviewed_by", "reviewed_at"]].isna().all()
    assert outcomes == {("train", Outcome.CHANGED): 1}


def test_a_decision_finds_its_example_under_another_id_by_what_was_shown() -> None:
    one = row("a")
    after, outcomes = apply([one | {"example_id": "new"}, row("b")], [decision(one, "No")])
    assert after["answer"].to_dict() == {"new": "No", "b": "Yes"}
    assert outcomes == {("train", Outcome.CHANGED): 1}


def test_a_confirmed_label_keeps_its_score() -> None:
    one = row("a", score=0.66, split="test")
    after, outcomes = apply([one], [decision(one, "Yes", blind=True)])
    assert after.loc["a", ["answer", "score", "label_from"]].tolist() == ["Yes", 0.66, "review"]
    assert outcomes == {("test", Outcome.CONFIRMED): 1}


@pytest.mark.parametrize("split", ["calibration", "test"])
@pytest.mark.parametrize("answer", ["No", None])
def test_a_held_out_example_waits_for_a_decision_that_was_made_blind(split: str, answer: str | None) -> None:
    one = row("a", split=split, doubt="the experts were unsure")
    after, outcomes = apply([one], [decision(one, answer)])
    assert after.loc["a", ["answer", "doubt", "label_from"]].tolist() == ["Yes", "the experts were unsure", "source"]
    assert outcomes == {(split, Outcome.WAITS): 1}
    after, outcomes = apply([one], [decision(one, "No", blind=True, queue="audit")])
    assert after.loc["a", ["answer", "source_answer", "reviewed_in"]].tolist() == ["No", "Yes", "audit"]
    assert outcomes == {(split, Outcome.TAKEN_IN): 1}


def test_a_decided_doubt_is_none() -> None:
    one = row("a", doubt="the experts were unsure")
    after, outcomes = apply([one], [decision(one, "Yes")])
    assert after["doubt"].isna().tolist() == [True]
    assert outcomes == {("train", Outcome.TAKEN_IN): 1}


def test_a_rejection_is_the_row_s_problem() -> None:
    one = row("a")
    after, outcomes = apply([one], [decision(one, None, comment="the picture is of a cat")])
    assert after.loc["a", ["problem", "detail", "split"]].tolist() == [
        *("rejected_by_reviewer", "rejected by anna: the picture is of a cat", "train")
    ]
    assert outcomes == {("train", Outcome.REJECTED): 1}


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_what_a_model_denied_stays_in_the_exam_as_doubtful_when_it_is_rejected(split: str) -> None:
    one = row("a", split=split)
    after, outcomes = apply([one], [decision(one, None, blind=True, queue="contested", comment="too dark to say")])
    assert after["problem"].isna().tolist() == [True]
    assert after.loc["a", ["doubt", "answer"]].tolist() == ["rejected by anna: too dark to say", "Yes"]
    assert outcomes == {(split, Outcome.DOUBTED): 1}
    after, outcomes = apply([one], [decision(one, None, blind=True, queue="audit")])
    assert after.loc["a", "problem"] == "rejected_by_reviewer"
    assert outcomes == {(split, Outcome.REJECTED): 1}


@pytest.mark.parametrize("changed", [{"question": "Cracked?"}, {"system": "Be brief."}, {"image_sha256": "other"}])
def test_a_decision_about_what_is_asked_no_longer_is_not_applied(changed: Row) -> None:
    after, outcomes = apply([row("a", **changed)], [decision(row("a"), "No")])
    assert (after.loc["a", "answer"], after.loc["a", "label_from"]) == ("Yes", "source")
    assert outcomes == {("train", Outcome.OUTDATED): 1}


def test_a_new_label_of_the_source_does_not_outdate_a_decision() -> None:
    after, _ = apply([row("a", answer="No", score=0.0)], [decision(row("a"), "Yes")])
    assert after.loc["a", ["answer", "score", "source_answer"]].tolist() == ["Yes", 1.0, "No"]


def test_a_row_that_became_unusable_stays_that() -> None:
    broken = row("a", problem="image_missing", split=None)
    after, outcomes = apply([broken], [decision(broken, "No")])
    assert after.loc["a", "problem"] == "image_missing"
    assert outcomes == {("", Outcome.OUTDATED): 1}


def test_an_answer_in_words_that_the_task_no_longer_has_is_counted() -> None:
    after, outcomes = apply([row("a")], [decision(row("a"), "Perhaps"), decision(row("gone"), "No")])
    assert after.loc["a", "answer"] == "Yes"
    assert outcomes == {("train", Outcome.UNREADABLE): 1, ("", Outcome.ABSENT): 1}


def test_numbers_and_texts_are_written_as_the_task_says() -> None:
    price = NumberAnswer(kind="number", template="Price is ${}", decimals=1)
    after, _ = apply([row("a", answer="Price is $2.0", score=2.0)], [decision(row("a"), "3.25")], price)
    assert after.loc["a", ["answer", "score"]].tolist() == ["Price is $3.2", 3.25]
    after, _ = apply([row("a", answer="ice", score=None)], [decision(row("a"), " water ")], TextAnswer(kind="text"))
    assert after.loc["a", "answer"] == "water" and pd.isna(after.loc["a", "score"])


def test_content_is_the_question_the_system_message_and_the_image() -> None:
    parts = [("Q", None, "i"), ("q", None, "i"), ("Q", "", "i"), ("Q", "i", None), (None, "Q", "i")]
    assert len({content(*part) for part in parts}) == len(parts)
    assert len(content(None, None, None)) == 64


examples = st.builds(
    row,
    st.just(""),
    split=st.sampled_from(SPLITS),
    image_sha256=st.sampled_from(["x", "y", "z", None]),
    question=st.sampled_from(["Q1", "q1", "Q2"]),
    answer=st.sampled_from(["Yes", "No", "perhaps", None]),
    doubt=st.sampled_from([None, None, "unsure"]),
    problem=st.sampled_from([None, None, None, "image_missing"]),
)
verdicts = st.tuples(
    st.sampled_from(["Yes", "No", "maybe", None]), st.sampled_from(["seen", "seen", "blind", "other", "gone"])
)


def decided(rows: list[Row], said: list[tuple[str | None, str]]) -> list[Row]:
    made = []
    for one, (answer, seen) in zip(rows, said, strict=False):
        changes = {"other": {"content": "of before"}, "gone": {"example_id": "gone"}, "blind": {"blind": True}}
        changes = changes.get(seen, {})
        made.append(decision(one, answer) | changes)
    return list({one["example_id"]: one for one in made}.values())


@settings(max_examples=40)
@given(st.lists(examples, max_size=25), st.lists(verdicts, max_size=25))
def test_everything_is_somewhere_once_in_its_split_and_every_decision_is_counted(
    rows: list[Row], said: list[tuple[str | None, str]]
) -> None:
    rows = [one | {"example_id": str(number)} for number, one in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        made = pd.DataFrame(decided(rows, said), columns=list(DTYPES)).astype(DTYPES)
        reviewed = Reviewed.of(table(folder, rows), made, ANSWER)
        out = UPath(folder)
        result = filter_examples(reviewed, ANSWER, Filtering(label_errors="off"), out / "c.parquet", out / "q.parquet")
        clean, quarantine = result.clean.frame(), result.quarantine.frame()
    splits = {one["example_id"]: one["split"] for one in rows}
    both = pd.concat([clean, quarantine])
    assert sorted(both["example_id"]) == sorted(splits)
    assert dict(zip(both["example_id"], both["split"], strict=True)) == splits
    assert reviewed.outcomes.total() == len(made)
    changed = clean.loc[(clean["label_from"] == "review") & (clean["answer"] != clean["source_answer"])]
    shown = {content(one["question"], one["system"], one["image_sha256"]) for one in rows}
    assert len(changed) <= sum(found in shown for found in made["content"].tolist())
    rejected = quarantine["reason"].tolist().count("rejected_by_reviewer")
    assert rejected == sum(n for (_, outcome), n in reviewed.outcomes.items() if outcome is Outcome.REJECTED)


@settings(max_examples=20)
@given(st.lists(examples, min_size=1, max_size=12), st.lists(verdicts, max_size=12))
def test_a_column_reads_the_same_by_itself_and_with_the_others(
    rows: list[Row], said: list[tuple[str | None, str]]
) -> None:
    rows = [one | {"example_id": str(number)} for number, one in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        made = pd.DataFrame(decided(rows, said), columns=list(DTYPES)).astype(DTYPES)
        reviewed = Reviewed.of(table(folder, rows), made, ANSWER)
        whole: Any = pd.concat(reviewed.chunks())
        for name in ("answer", "score", "doubt", "problem"):
            alone = pd.concat(reviewed.chunks([name]))
            assert alone.equals(whole.filter([name]))
    assert len(whole) == len(rows)
