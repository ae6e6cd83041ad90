import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.filtering import Filtered, filter_examples
from finetune_assets.dataset.quarantine import DTYPES, Reason
from finetune_assets.dataset.sampling import DTYPES as SAMPLED
from finetune_assets.task import BinaryAnswer

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def row(name: str, **fields: object) -> dict[str, object]:
    known = {"example_id": name, "region": "mono", "split": "train", "question": "Defective?", "answer": "Yes"}
    return {**dict.fromkeys(SAMPLED), **known, "image_sha256": name, "detail": "", **fields}


def filtered(*rows: dict[str, object]) -> Filtered:
    return filter_examples(pd.DataFrame(list(rows), columns=list(SAMPLED)).astype(SAMPLED), ANSWER)


def reasons(result: Filtered) -> dict[str, str]:
    return dict(zip(result.quarantine["example_id"], result.quarantine["reason"], strict=True))


def details(result: Filtered) -> list[str]:
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


def test_an_answer_in_other_words_is_unparseable() -> None:
    result = filtered(row("a", answer="Maybe"), row("b", answer=None))
    assert reasons(result) == {"a": "unparseable_answer", "b": "unparseable_answer"}
    assert "Yes or No, found 'Maybe'" in details(result)[0]


def test_of_exact_duplicates_the_first_stays() -> None:
    result = filtered(row("a", image_sha256="x"), row("b", image_sha256="x", question=" defective? "), row("c"))
    assert result.clean["example_id"].tolist() == ["a", "c"]
    assert (reasons(result), details(result)) == ({"b": "duplicate"}, ["the same as a"])


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
    assert list(result.clean.columns) == list(SAMPLED)


generated = st.builds(
    row,
    st.sampled_from("abcdef"),
    image_sha256=st.sampled_from(["x", "y", None]),
    question=st.sampled_from(["Q1", "q1", "Q2"]),
    answer=st.sampled_from(["Yes", "No", "perhaps", None]),
    doubt=st.sampled_from([None, None, "unsure"]),
    problem=st.sampled_from([None, None, "image_missing"]),
)


@given(st.lists(generated, max_size=20))
def test_counts_always_add_up_and_what_stays_is_unique_and_parseable(rows: list[dict[str, object]]) -> None:
    result = filtered(*rows)
    assert len(result.clean) + len(result.quarantine) == len(rows)
    assert set(result.quarantine["reason"]) <= {str(reason) for reason in Reason}
    kept = result.clean.assign(
        image_sha256=result.clean["image_sha256"].fillna(""), question=lambda f: f["question"].str.lower()
    )
    assert not kept.duplicated(["image_sha256", "question"]).any()
    assert set(kept["answer"]) <= {"Yes", "No"}
    assert set(kept["doubt"].isna()) <= {True}
