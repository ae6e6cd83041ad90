"""What a task may say of the arms of its contest."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from finetune_assets.task.arms import FewShotArm, FrontierArm, name_of
from finetune_assets_tests.pipeline.tasks import make_task

FRONTIER = {"kind": "frontier", "provider": "openai", "model": "gpt-6-sol"}


def arms(*rules: Any, **changes: Any) -> tuple[Any, ...]:
    return make_task(benchmark={"arms": list(rules)}, **changes).benchmark.contest


def test_a_task_that_names_no_arms_has_no_contest() -> None:
    assert make_task().benchmark.contest == ()


def test_a_word_is_an_arm_that_says_nothing_else() -> None:
    assert [name_of(arm) for arm in arms("base", "decisions", "few_shot", "tuned", "cascade", "optimised_prompt")] == [
        "base", "decisions", "few_shot", "tuned", "cascade", "optimised_prompt",
    ]  # fmt: skip


def test_an_arm_may_say_more_and_have_a_name() -> None:
    shots, other = arms({"kind": "few_shot", "examples": 8, "name": "eight"}, FRONTIER)
    assert isinstance(shots, FewShotArm) and shots.examples == 8 and name_of(shots) == "eight"
    assert isinstance(other, FrontierArm) and other.provider == "openai"


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (["base"], "names base alone, and a contest needs two or more"),
        (["tuned", "tuned"], "two that are called tuned: give each a `name`"),
        (["tuned", "frontier"], "frontier does not say which model"),
        (["tuned", {"kind": "optimised_prompt", "model": "gpt-6-luna"}], "needs both, `provider` and `model`"),
        (["tuned", {"kind": "optimised_prompt", "answers": 10}], "greater than or equal to 60"),
        (["tuned", {"kind": "cascade", "to": "frontier"}], "goes to frontier, which is no other arm"),
        (["tuned", "cascade", {"kind": "cascade", "name": "two", "to": "cascade"}], "which is no other arm"),
        (["base", {"kind": "cascade", "to": "base", "target_accuracy": 0.9}], "leave it out"),
        (["tuned", {**FRONTIER, "name": "person"}], "which is what a cascade calls people"),
        (["tuned", {"kind": "decisions", "model": "gpt-6-luna"}], "needs both, `provider` and `model`"),
        (["tuned", {"kind": "few_shot", "examples": 0}], "greater than or equal to 1"),
        (["tuned", {"kind": "few_shot", "k": 4}], "Extra inputs"),
        (["tuned", "few-shot"], "few_shot"),
    ],
)
def test_arms_that_are_no_contest_are_refused(rules: list[Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        arms(*rules)


@pytest.mark.parametrize(
    ("answer", "arm", "said"),
    [
        ({"kind": "number"}, "decisions", "answer.kind is number"),
        ({"kind": "text"}, "decisions", "answer.kind is text"),
        ({"kind": "number"}, "cascade", "numbers have none"),
    ],
)
def test_an_arm_that_cannot_give_such_answers_is_refused(answer: dict[str, Any], arm: str, said: str) -> None:
    source = {"kind": "table", "path": "t.csv", "question": "{q}", "answer": "{a}"}
    with pytest.raises(ValidationError, match=said):
        arms("tuned", arm, answer=answer, source=source, prompt={})
