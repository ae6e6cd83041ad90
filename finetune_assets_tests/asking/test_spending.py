"""What a training takes, in words."""

from __future__ import annotations

import pytest

from finetune_assets.asking.spending import ArmCost, Estimate, Length, contest, require_affordable
from finetune_assets.errors import EvaluationError
from finetune_assets.task.arms import Arm, BaseArm, CascadeArm, FewShotArm, FrontierArm, TunedArm
from finetune_assets.task.costs import TokenPrices
from finetune_assets_tests.pipeline.tasks import make_task


def test_what_training_takes_is_said_in_words() -> None:
    unknown = Estimate(tokens=17486, epochs=2, cost_usd=None)
    assert str(unknown) == "17,486 tokens, 2 epochs, price unknown"
    assert str(Estimate(tokens=7, epochs=1, cost_usd=0.004)) == "7 tokens, 1 epochs, 0.00 USD"


SIX_SOL = FrontierArm(provider="openai", model="gpt-6-sol")
HUNDRED = {"test": 100, "calibration": 50, "train": 900}


def costs(*arms: Arm, provider: str = "local") -> dict[str, float | None]:
    asked = contest(make_task(provider=provider), arms, HUNDRED, Length(1000, 10))
    return {arm.name: arm.usd for arm in asked}


def test_an_arm_costs_its_test_questions_and_answers() -> None:
    # 100 questions of 1,000 tokens at 2 USD and answers of 10 at 10 USD a million
    assert costs(SIX_SOL, TunedArm()) == {"frontier": pytest.approx(0.2 + 0.01)}


def test_what_a_cascade_hands_over_to_is_asked_the_calibration_split_too() -> None:
    assert costs(SIX_SOL, CascadeArm(to="frontier")) == {"frontier": pytest.approx(1.5 * 0.21)}


def test_a_few_shot_question_is_as_much_longer_as_it_shows_examples() -> None:
    base, shots = BaseArm(), FewShotArm(examples=3)
    found = costs(base, shots, provider="openai")
    assert found == {"base": pytest.approx(0.25 + 0.01), "few_shot": pytest.approx(4 * 0.25 + 0.01)}
    assert costs(base, shots) == {"base": 0, "few_shot": 0}


def test_an_arm_that_states_its_prices_has_those() -> None:
    stated = FrontierArm(provider="https://host/v1", model="m", prices=TokenPrices(input=1, output=0))
    assert costs(stated, FrontierArm(provider="https://host/v1", model="m", name="other")) == {
        "frontier": pytest.approx(0.1),
        "other": None,
    }


def test_an_arm_is_asked_only_where_training_and_all_arms_are_within_the_budget() -> None:
    asked = [ArmCost("frontier", 0.6), ArmCost("base", 0.0), ArmCost("other", None)]
    task = make_task()
    require_affordable(asked, "frontier", task, 4.4, 5)
    require_affordable(asked, "base", task, 9, 5)
    require_affordable(asked, "other", task, 9, None)
    with pytest.raises(EvaluationError, match=r"about 0\.60 USD, training and arms together 5\.10 USD"):
        require_affordable(asked, "frontier", task, 4.5, 5)
    with pytest.raises(EvaluationError, match="nobody knows what its answers cost"):
        require_affordable(asked, "other", task, 0, 5)
    require_affordable(asked, "other", make_task(checks={"within_budget": "warn"}), 0, 5)
