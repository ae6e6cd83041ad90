"""What graders make of answers, their own arithmetic and the replies of models given."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_assets.errors import GraderError
from finetune_assets.server.grading.graders import Graded, Reply, read
from finetune_assets.server.grading.template import Values

CHECK = {"type": "string_check", "name": "c", "input": "{{sample.output_text}}", "reference": "{{item.label}}"}
SCORE: dict[str, Any] = {
    "type": "score_model", "name": "s", "model": "m", "range": [0, 2],
    "sampling_params": {"temperature": 0, "seed": None},
    "input": [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": [{"type": "input_text", "text": "{{item.label}}?"}, "{{sample.output_text}}"]},
    ],
}  # fmt: skip


def check(operation: str, **changed: Any) -> dict[str, Any]:
    return CHECK | {"operation": operation} | changed


def several(formula: str, **graders: dict[str, Any]) -> dict[str, Any]:
    return {"type": "multi", "name": "both", "graders": graders, "calculate_output": formula}


def graded(described: dict[str, Any], answer: str, *replies: Reply, **item: Any) -> Graded:
    return read(described).grade(Values(item or {"label": "Yes"}, answer), iter(replies))


@pytest.mark.parametrize(
    ("operation", "answer", "reward"),
    [
        ("eq", "Yes", 1), ("eq", "yes", 0), ("eq", "Yes.", 0), ("ne", "No", 1), ("ne", "Yes", 0),
        ("like", "Oh Yes.", 1), ("like", "oh yes", 0), ("ilike", "oh YES.", 1), ("ilike", "no", 0),
    ],
)  # fmt: skip
def test_a_string_check_is_1_or_0(operation: str, answer: str, reward: float) -> None:
    assert graded(check(operation), answer) == Graded(reward)


def test_what_a_template_lacks_gives_0_and_says_so() -> None:
    assert graded(check("ne"), "x", other=1) == Graded(0, frozenset({"invalid_variable_error"}))
    from_json = check("eq", input="{{sample.output_json.a}}")
    assert graded(from_json, '{"a": "Yes"}') == Graded(1)
    assert graded(from_json, "Yes") == Graded(0, frozenset({"sample_parse_error"}))


def test_a_model_is_asked_what_the_templates_say() -> None:
    (question,) = read(SCORE).questions(Values({"label": "Yes"}, "No"))
    text = [{"type": "text", "text": "Yes?"}, {"type": "text", "text": "No"}]
    assert question.messages == [{"role": "system", "content": "Judge."}, {"role": "user", "content": text}]
    assert (question.model, question.sampling) == ("m", {"temperature": 0})
    assert read(SCORE).questions(Values({}, "No")) == []
    assert graded(SCORE, "No", label_=1).errors == {"invalid_variable_error"}


@pytest.mark.parametrize(
    ("reply", "reward", "errors"),
    [
        ('{"result": 1.5, "steps": []}', 1.5, set()),
        ('{"result": 3}', 2, set()),
        ('{"result": -1}', 0, set()),
        ('{"result": "1"}', 0, {"model_grader_parse_error"}),
        ('{"result": true}', 0, {"model_grader_parse_error"}),
        ('{"result": 1', 0, {"model_grader_parse_error"}),
        ("[1]", 0, {"model_grader_parse_error"}),
    ],
)
def test_a_models_number_is_kept_within_the_range(reply: str, reward: float, errors: set[str]) -> None:
    found = graded(SCORE, "No", Reply(reply, 3, 4))
    assert (found.reward, found.errors, found.asked[0][1].prompt_tokens) == (reward, errors, 3)


def test_a_model_that_does_not_answer_gives_0_and_says_why() -> None:
    found = graded(SCORE, "No", Reply("", error="too long"))
    assert (found.reward, found.errors, found.details) == (0, {"model_grader_server_error"}, "too long")


def test_several_graders_share_a_formula_and_each_gets_its_own_replies() -> None:
    described = several("0.5 * word + score - other", word=check("eq"), score=SCORE, other=SCORE)
    replies = [Reply('{"result": 2}'), Reply('{"result": 1}')]
    found = graded(described, "Yes", *replies)
    assert found.reward == 1.5
    assert {name: part.reward for name, part in found.parts.items()} == {"word": 1, "score": 2, "other": 1}
    assert [model for model, _ in read(described).models] == ["m", "m"]
    assert [place for _, place in read(described).models] == ["graders.score.model", "graders.other.model"]


def test_a_formula_without_a_value_gives_0_and_says_so() -> None:
    assert graded(several("1 / word", word=check("eq")), "No").errors == {"formula_parse_error"}


def test_one_grader_may_stand_alone_as_the_apis_schema_has_it() -> None:
    described: dict[str, Any] = several("2 * c") | {"graders": check("eq")}
    assert graded(described, "Yes").reward == 2


@pytest.mark.parametrize(
    ("described", "param", "told"),
    [
        (check("eq", input="{{x}}"), "input", "is no name"),
        (check("eq", reference="{{x"), "reference", "never closed"),
        (
            {"type": "python", "source": "x"},
            "type",
            "'python' are not available on this server: code that clients send",
        ),
        ({"type": "label_model"}, "type", "'label_model' are not available"),
        (SCORE | {"range": [1, 1]}, "range", "must be below the second"),
        (SCORE | {"input": [{"role": "user", "content": "{{x}}"}]}, "input[0].content", "is no name"),
        (
            SCORE | {"input": [{"role": "user", "content": {"type": "input_audio", "input_audio": {}}}]},
            "input[0].content",
            "hear nothing",
        ),
        (several("a +", a=check("eq")), "calculate_output", "ends too early"),
        (several("a", a=check("eq", input="{{x}}")), "graders.a.input", "is no name"),
        (several("min", min=check("eq")), "graders.min", "no function's"),
        (several("a", **{"a b": check("eq")}), "graders.a b", "a word of letters"),
        (several("a", a={"type": "python"}), "graders.a.type", "not available"),
        (
            {**CHECK, "type": "text_similarity", "evaluation_metric": "cosine"},
            "evaluation_metric",
            "the metric 'cosine' is not available",
        ),
    ],
)
def test_a_grader_that_cannot_be_used_is_refused_naming_the_place(described: Any, param: str, told: str) -> None:
    with pytest.raises(GraderError, match=told) as refused:
        read(described)
    assert refused.value.param == param
