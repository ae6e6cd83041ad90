import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.dataset.comparison import answer_key
from finetune_assets.dataset.corrections import DTYPES as DECISIONS
from finetune_assets.dataset.corrections import PROVENANCE, Reviewed
from finetune_assets.dataset.filtering import filter_examples
from finetune_assets.dataset.identity import content
from finetune_assets.dataset.quarantine import DTYPES, Reason
from finetune_assets.dataset.sampling import DTYPES as SAMPLED
from finetune_assets.dataset.table import write_table
from finetune_assets.task import Filtering
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def row(name: str, **fields: object) -> dict[str, object]:
    known = {"example_id": name, "region": "mono", "split": "train", "question": "Defective?", "answer": "Yes"}
    return {**dict.fromkeys(SAMPLED), **known, "image_sha256": name, "detail": "", **fields}


@dataclass(frozen=True)
class Both:
    """Both tables, read."""

    clean: pd.DataFrame
    quarantine: pd.DataFrame
    by_reason: dict[str, int]


def decision(example: dict[str, Any], answer: str | None, **fields: object) -> dict[str, object]:
    """What a reviewer decided about a row; None rejects it."""
    shown = content(example["question"], example["system"], example["image_sha256"])
    known = {"example_id": example["example_id"], "content": shown, "answer": answer, "reviewed_by": "anna"}
    return {**dict.fromkeys(DECISIONS), **known, "n_judgements": 1, "blind": True, **fields}


def decisions(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(DECISIONS)).astype(DECISIONS)


def filtered(
    *rows: dict[str, object],
    answer: Answer = ANSWER,
    reviewed: Sequence[dict[str, object]] = (),
    **filtering: Any,
) -> Both:
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(
            UPath(folder) / "s.parquet", pd.DataFrame(list(rows), columns=list(SAMPLED)).astype(SAMPLED)
        )
        asked = Filtering.model_validate({"label_errors": "off"} | filtering)
        examples = Reviewed.of(table, decisions(*reviewed), answer)
        result = filter_examples(examples, answer, asked, UPath(folder) / "c.parquet", UPath(folder) / "q.parquet")
        assert result.n_sampled == len(rows)
        return Both(result.clean.frame(), result.quarantine.frame(), dict(result.by_reason))


def reasons(result: Both) -> dict[str, str]:
    return dict(zip(result.quarantine["example_id"], result.quarantine["reason"], strict=True))


def details(result: Both) -> list[str]:
    return result.quarantine["detail"].tolist()


def test_good_examples_pass_in_their_order() -> None:
    result = filtered(row("a"), row("b", answer="No"))
    assert result.clean["example_id"].tolist() == ["a", "b"]
    assert len(result.quarantine) == 0


def test_a_problem_keeps_its_reason_and_detail() -> None:
    result = filtered(row("a", problem="image_missing", detail="there is no file 'a.png'", split=None))
    assert reasons(result) == {"a": "image_missing"}
    assert details(result) == ["there is no file 'a.png'"]


def test_a_doubtful_label_waits_for_a_reviewer_with_its_split() -> None:
    result = filtered(row("a", doubt="the experts' defect probability is 0.33"))
    assert reasons(result) == {"a": "doubtful_label"}
    assert details(result) == ["the experts' defect probability is 0.33"]
    assert result.quarantine["split"].tolist() == ["train"]


def test_hard_cases_stay_in_what_judges_a_model() -> None:
    rows = [row(split, split=split, doubt="unsure") for split in ("train", "validation", "calibration", "test")]
    assert reasons(filtered(*rows)) == {"train": "doubtful_label", "validation": "doubtful_label"}


@pytest.mark.parametrize("split", ["train", "validation", "calibration", "test"])
def test_votes_that_are_tied_are_doubtful_in_every_split(split: str) -> None:
    result = filtered(row("a", split=split, answer=None, doubt="the 2 votes are tied: 1 Yes, 1 No"))
    assert reasons(result) == {"a": "doubtful_label"}


def test_a_task_may_keep_what_the_experts_doubted() -> None:
    result = filtered(row("a", doubt="unsure"), row("b", doubt="unsure", answer="Maybe"), doubtful="keep")
    assert result.clean["example_id"].tolist() == ["a"]
    assert reasons(result) == {"b": "unparseable_answer"}


def test_an_answer_in_other_words_is_unparseable() -> None:
    result = filtered(row("a", answer="Maybe"), row("b", answer=None))
    assert reasons(result) == {"a": "unparseable_answer", "b": "empty_answer"}
    assert "Yes or No, found 'Maybe'" in details(result)[0]


def test_of_exact_duplicates_the_first_stays() -> None:
    result = filtered(row("a", image_sha256="x"), row("b", image_sha256="x", question=" Defective? "), row("c"))
    assert result.clean["example_id"].tolist() == ["a", "c"]
    assert (reasons(result), details(result)) == ({"b": "duplicate"}, ["the same as a"])


def test_letters_of_another_case_ask_and_answer_something_else() -> None:
    seen = {"image_sha256": "x"}
    asked = filtered(row("a", question="Is 'A' left of 'b'?", **seen), row("b", question="Is 'a' left of 'B'?", **seen))
    assert asked.clean["example_id"].tolist() == ["a", "b"]
    answered = answer_key(pd.DataFrame({"answer": ["CO", "Co", " CO", "C\u0327O", "\u00c7O"]}))
    assert len(set(answered[:3])) == 2 and answered[0] == answered[2] and answered[3] == answered[4]


def test_of_contradictory_answers_none_stays() -> None:
    one, other = row("a", image_sha256="x"), row("b", image_sha256="x", answer="No")
    result = filtered(one, other, row("c", image_sha256="x"))
    assert set(reasons(result).values()) == {"contradictory_answers"}
    assert details(result) == ["a says Yes, b says No"] * 3
    assert len(result.clean) == 0


def test_two_questions_about_one_image_are_neither() -> None:
    assert len(filtered(row("a", image_sha256="x"), row("b", image_sha256="x", question="Cracked?")).clean) == 2


def test_the_same_question_without_images_is_compared_too() -> None:
    assert reasons(filtered(row("a", image_sha256=None), row("b", image_sha256=None))) == {"b": "duplicate"}


def test_a_doubtful_label_contradicts_nobody() -> None:
    result = filtered(row("a", image_sha256="x"), row("b", image_sha256="x", answer="No", doubt="unsure"))
    assert result.clean["example_id"].tolist() == ["a"]
    assert reasons(result) == {"b": "doubtful_label"}


def test_an_empty_frame_gives_two_empty_tables_with_their_columns() -> None:
    result = filtered()
    assert {name: str(kind) for name, kind in result.quarantine.dtypes.items()} == DTYPES
    assert list(result.clean.columns) == [*SAMPLED, *PROVENANCE]


def test_a_system_message_of_its_own_makes_it_another_question() -> None:
    assert len(filtered(row("a", image_sha256="x", system="Be brief."), row("b", image_sha256="x")).clean) == 2


def test_a_choice_is_one_of_its_options() -> None:
    answer = ChoiceAnswer(kind="choice", options=["left", "right", "above"])
    result = filtered(row("a", answer="left"), row("b", answer="below"), answer=answer)
    assert reasons(result) == {"b": "unparseable_answer"}
    assert details(result) == ["the answer must be one of left, right, above, found 'below'"]


def test_a_number_is_known_and_within_the_tasks_limits() -> None:
    answer = NumberAnswer(kind="number", minimum=0, maximum=1000)
    rows = [row(name, answer=f"{name}.00", score=float(name)) for name in ("5", "-1", "1001")]
    result = filtered(*rows, row("none", answer="cheap", score=None), answer=answer)
    assert result.clean["example_id"].tolist() == ["5"]
    assert reasons(result) == {
        "-1": "score_out_of_range",
        "1001": "score_out_of_range",
        "none": "unparseable_answer",
    }


def test_a_wild_price_is_an_outlier_where_the_task_asks_for_them() -> None:
    prices = [row(str(n), answer=f"{n}.00", score=float(n)) for n in range(50, 150)]
    wild = row("wild", answer="99999.00", score=99999.0)
    answer = NumberAnswer(kind="number")
    assert reasons(filtered(*prices, wild, answer=answer)) == {"wild": "outlier"}
    assert reasons(filtered(*prices, wild, answer=answer, outliers=False)) == {}


def test_texts_must_not_be_empty_and_may_contradict_each_other() -> None:
    rows = [row("a", answer="water"), row("b", answer=" \n"), row("c", image_sha256="a", answer="ice")]
    result = filtered(*rows, answer=TextAnswer(kind="text"))
    assert reasons(result) == {"a": "contradictory_answers", "b": "empty_answer", "c": "contradictory_answers"}


def test_personal_data_and_other_languages_are_looked_for_where_the_task_asks() -> None:
    rows = [
        row("a", question="Ask jane@example.com what it is."),
        row("b", question="Wie viele Zellen sind auf diesem Bild defekt und warum?"),
        row("c"),
    ]
    assert reasons(filtered(*rows)) == {}
    result = filtered(*rows, personal_data=True, language="en")
    assert reasons(result) == {"a": "personal_data", "b": "other_language"}
    assert "jane" not in details(result)[0]


@pytest.mark.parametrize("asked", ["report", "quarantine"])
def test_labels_that_look_wrong_are_set_aside_in_the_training_split_only(asked: str) -> None:
    rows = [
        row(
            f"{split}-{n}",
            split=split,
            question=f"A {'hot red fire' if n % 2 else 'cold blue lake'} number {n}",
            answer="Yes" if n % 2 else "No",
        )
        for split, size in (("train", 120), ("test", 60))
        for n in range(size)
    ]
    for wrong in (7, 127):
        rows[wrong]["answer"] = "No"
    result = filtered(*rows, label_errors=asked)
    assert reasons(result) == ({"train-7": "label_error"} if asked == "quarantine" else {})
    confirmed = filtered(*rows, label_errors=asked, reviewed=[decision(rows[7], "No")])
    assert reasons(confirmed) == {}


def test_a_decided_doubt_comes_in_and_a_rejected_example_goes_out() -> None:
    doubtful, good = row("a", doubt="unsure"), row("b")
    result = filtered(doubtful, good, reviewed=[decision(doubtful, "No"), decision(good, None, comment="blurred")])
    assert result.clean[["example_id", "answer"]].to_numpy().tolist() == [["a", "No"]]
    assert (reasons(result), details(result)) == ({"b": "rejected_by_reviewer"}, ["rejected by anna: blurred"])


def test_what_a_reviewer_decided_is_contradicted_by_nobody_who_did_not_ask_one() -> None:
    one, other = row("a", image_sha256="x"), row("b", image_sha256="x", answer="No")
    result = filtered(one, other, reviewed=[decision(other, "No")])
    assert result.clean["example_id"].tolist() == ["b"]
    assert (reasons(result), details(result)) == ({"a": "contradictory_answers"}, ["b says No, a says Yes"])


def test_reviewers_who_contradict_each_other_have_decided_nothing() -> None:
    one, other = row("a", image_sha256="x"), row("b", image_sha256="x")
    result = filtered(one, other, reviewed=[decision(one, "Yes"), decision(other, "No")])
    assert set(reasons(result).values()) == {"contradictory_answers"} and not len(result.clean)


generated = st.builds(
    row,
    st.sampled_from("abcdef"),
    image_sha256=st.sampled_from(["x", "y", None]),
    system=st.sampled_from([None, "Be brief."]),
    question=st.sampled_from(["Q1", "q1", "Q2", "Who is a@b.de?"]),
    answer=st.sampled_from(["Yes", "No", "perhaps", "", None]),
    doubt=st.sampled_from([None, None, "unsure"]),
    problem=st.sampled_from([None, None, "image_missing"]),
)


@settings(max_examples=20)
@given(st.lists(generated, max_size=20))
def test_counts_always_add_up_and_what_stays_is_unique_and_parseable(rows: list[dict[str, object]]) -> None:
    result = filtered(*rows, personal_data=True)
    assert len(result.clean) + len(result.quarantine) == len(rows)
    assert result.by_reason == result.quarantine["reason"].value_counts().to_dict()
    assert set(result.by_reason) <= {str(reason) for reason in Reason}
    kept = result.clean.assign(
        image_sha256=result.clean["image_sha256"].fillna(""),
        system=result.clean["system"].fillna(""),
    )
    assert not kept.duplicated(["image_sha256", "system", "question"]).any()
    assert set(kept["answer"]) <= {"Yes", "No"}
    assert set(kept.loc[kept["doubt"].notna(), "split"]) <= {"calibration", "test"}


@settings(max_examples=20)
@given(st.lists(generated, max_size=20))
def test_both_tables_keep_the_order_of_the_examples(rows: list[dict[str, object]]) -> None:
    numbered = [{**one, "example_id": str(number), "line": number} for number, one in enumerate(rows)]
    result = filtered(*numbered)
    for table in (result.clean, result.quarantine):
        assert table["line"].is_monotonic_increasing


def test_an_interrupted_filter_leaves_no_table(tmp_path: Path) -> None:
    frame = pd.DataFrame([row("a", problem="no such reason")], columns=list(SAMPLED)).astype(SAMPLED)
    table = write_table(UPath(tmp_path) / "s.parquet", frame)
    examples = Reviewed.of(table, decisions(), ANSWER)
    with pytest.raises(ValueError, match="no such reason"):
        filter_examples(examples, ANSWER, Filtering(), UPath(tmp_path) / "c.parquet", UPath(tmp_path) / "q.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]
