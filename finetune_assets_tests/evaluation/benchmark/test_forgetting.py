"""What a model lost by being fine-tuned."""

from __future__ import annotations

import pytest

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.benchmark.forgetting import forgetting, general_questions
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets_tests.evaluation.predictions import predictions

YES_NO = BinaryAnswer(kind="binary")


def test_the_general_questions_are_each_asked_once_and_half_of_them_are_true() -> None:
    probe = general_questions()
    assert len(probe) == probe["question"].nunique() == probe["group"].nunique() == 40
    for n in (10, 20, 40):
        assert probe["answer"].head(n).value_counts().to_dict() == {"Yes": n // 2, "No": n // 2}


def test_what_is_forgotten_is_called_so_with_its_numbers() -> None:
    found = forgetting("general questions", predictions(base=0.9, fine_tuned=0.5), YES_NO)
    assert found is not None and found.outcome == "worse"
    assert found.difference.estimate == pytest.approx(found.fine_tuned - found.base)
    assert str(found).startswith(f"general questions (n = 120): right in {100 * found.fine_tuned:.1f} % instead of ")
    assert "forgotten" in str(found) and "95 % interval" in str(found)


def test_a_change_that_may_be_chance_is_none() -> None:
    found = forgetting("other regions", predictions(base=0.8, fine_tuned=0.78), YES_NO)
    assert found is not None and "no significant change" in str(found)


def test_too_few_answers_say_nothing_and_broken_ones_are_refused() -> None:
    table = predictions()
    failed = table.assign(error="refused")
    assert forgetting("other regions", failed, YES_NO) is None
    with pytest.raises(EvaluationError):
        forgetting("other regions", table.iloc[:-1], YES_NO)
