"""Calls against true calls: the name, each argument, and all of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.scoring import scoring_of
from finetune_assets.evaluation.scoring.call import share_of_arguments
from finetune_assets.task.calls import CallAnswer
from finetune_assets_tests.evaluation.predictions import prediction

ANSWER = CallAnswer.model_validate({"kind": "call", "tools": [{"name": "book"}, {"name": "cancel"}]})


def a_call(name: str, **arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments})


@pytest.mark.parametrize(
    ("true", "given", "share"),
    [
        ({}, {}, 1),
        ({"a": 1}, {"a": 1.0}, 1),
        ({"a": 1}, {"a": True}, 0),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}, 1),
        ({"a": [1, 2]}, {"a": [2, 1]}, 0),
        ({"a": 1, "b": 2}, {"a": 1}, 0.5),
        ({"a": 1}, {"a": 1, "b": 2, "c": 3}, 1 / 3),
        ({"a": "x"}, {"a": "X"}, 0),
    ],
)
def test_arguments_are_compared_one_by_one(true: dict[str, Any], given: dict[str, Any], share: float) -> None:
    assert share_of_arguments(true, given) == pytest.approx(share)


def test_a_call_is_right_with_its_name_and_all_its_arguments() -> None:
    true = a_call("book", to="Bonn", seats=2)
    said = [true, a_call("book", seats=2, to="Bonn"), a_call("book", to="Bonn", seats=3), a_call("cancel"), None]
    rows = [prediction(truth=true, predicted=call) for call in said]
    scoring = scoring_of(ANSWER)
    assert list(scoring.metrics) == ["exact_call", "right_arguments", "right_name"]
    scored = scoring.score(rows)
    ones = np.ones((1, len(rows)))
    assert scored.right.tolist() == [1, 1, 0, 0, 0]
    assert {name: metric.resampled(scored, ones)[0] for name, metric in scoring.metrics.items()} == pytest.approx(
        {"exact_call": 2 / 5, "right_arguments": 2.5 / 5, "right_name": 3 / 5}
    )
    assert next(iter(scoring_of(ANSWER, "right_arguments").metrics)) == "right_arguments"


def test_the_constant_is_the_most_frequent_call() -> None:
    rows = [prediction(truth=a_call(name), predicted=None) for name in ("book", "cancel", "cancel")]
    (constant,) = scoring_of(ANSWER).constants(rows)
    assert constant.answer == a_call("cancel")


def test_a_true_answer_that_is_no_call_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="must be calls, found 'Yes'"):
        scoring_of(ANSWER).score([prediction(truth="Yes", predicted="No")])
