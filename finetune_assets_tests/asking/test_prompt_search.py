"""A system prompt is searched for on the training and the validation split, within a budget, and nothing twice."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.asking.arms import Line, ask_arms, own_entry
from finetune_assets.asking.predictions import Asked, predict
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.evaluation.arms import page
from finetune_assets.evaluation.arms.contest import hold
from finetune_assets.evaluation.arms.entry import Entrants
from finetune_assets.preflight import provider as provider_findings
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.task.arms import OptimisedPromptArm
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.provider.answering_provider import (
    AnsweringProvider,
    Response,
    answering_provider,
    completion,
    refusal,
    text_of,
)

HAS_GEPA = importlib.util.find_spec("gepa") is not None
with_gepa = pytest.mark.skipif(not HAS_GEPA, reason="needs the extra `prompts`")
HINT = "An even number ends in 0, 2, 4, 6 or 8."
SPLITS = {"train": 20, "validation": 12, "calibration": 8, "test": 10}
ARM = OptimisedPromptArm(answers=100, proposals=4)


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")


def answer(asked: dict[str, Any]) -> Response:
    """Say Yes to everything, unless there is the hint; asked for a prompt, write it."""
    if "messages" not in asked:
        return refusal(404, "Not Found")
    said = text_of(asked)
    if not said.startswith("Is "):
        return completion(f"```\n{HINT}\n```")
    odd = int(said.split()[1]) % 2
    return completion("No" if odd and asked["messages"][0]["content"] == HINT else "Yes")


@pytest.fixture
def provider() -> Iterator[AnsweringProvider]:
    with answering_provider(AnsweringProvider(answer)) as serving:
        yield serving


def questions(folder: Path) -> Table:
    rows: list[dict[str, Any]] = []
    for split, n_split in SPLITS.items():
        for _ in range(n_split):
            n = len(rows)
            rows.append(
                {"example_id": f"e{n}", "split": split, "group": f"g{n}", "question": f"Is {n} even?", "image": None,
                 "answer": "No" if n % 2 else "Yes", "score": float("nan"), "system": None}
            )  # fmt: skip
    return write_table(UPath(folder / "clean.parquet"), pd.DataFrame(rows))


def searched(provider: AnsweringProvider, folder: Path, said: list[str]) -> tuple[Entrants, str]:
    """Hold a contest with the arm; what came, and its section of the page."""
    clean = questions(folder)
    task = make_task(provider=provider.base_url, base_model="base", source={"kind": "elpv"})
    with AnswerCache(folder / "answers.sqlite") as cache:
        held_out = clean.frame(split=("calibration", "test"))
        tuned = predict(provider.client(), Asked("tuned", task), held_out, "fine_tuned", cache)
        line = Line(task, provider.client(), clean, tuned, cache, spent_usd=0, budget_usd=None, say=said.append)
        field, _ = ask_arms(line, (ARM,))
        return field, page.section(hold(field, own_entry(line), [], task.answer)) if field.entries else ""


def asked_by_base(provider: AnsweringProvider) -> list[dict[str, Any]]:
    return [asked for asked in provider.asked if asked.get("model") == "base"]


@with_gepa
def test_the_prompt_that_is_best_on_the_validation_split_answers_the_test(
    provider: AnsweringProvider, tmp_path: Path
) -> None:
    said: list[str] = []
    field, shown = searched(provider, tmp_path, said)
    (entry,) = field.entries
    assert (entry.kind, entry.prompt) == ("optimised_prompt", HINT)
    assert [row.predicted == row.truth for row in entry.test] == [True] * SPLITS["test"]
    assert "1.000 on 12 validation examples, the task's own 0.500" in entry.how
    assert f"<pre>{HINT}</pre>" in shown
    assert said[0].startswith("a prompt is searched for with at most 100 answers of base, to 20 training and 12 ")


@with_gepa
def test_nothing_is_learned_from_calibration_or_test(provider: AnsweringProvider, tmp_path: Path) -> None:
    searched(provider, tmp_path, [])
    asked = asked_by_base(provider)
    proposals = [text_of(one) for one in asked if not text_of(one).startswith("Is ")]
    assert proposals
    first_held_out = SPLITS["train"] + SPLITS["validation"]
    assert not [n for n in range(SPLITS["train"], sum(SPLITS.values())) if f"Is {n} even?" in "".join(proposals)]
    under_own = {text_of(one) for one in asked if one["messages"][0]["content"] != HINT}
    assert not [
        n for n in range(first_held_out, sum(SPLITS.values())) if f"Is {n} even? Answer Yes or No." in under_own
    ]


@with_gepa
def test_the_search_keeps_to_its_budget_and_asks_nothing_twice(provider: AnsweringProvider, tmp_path: Path) -> None:
    searched(provider, tmp_path, [])
    asked = asked_by_base(provider)
    n_proposals = sum(not text_of(one).startswith("Is ") for one in asked)
    assert n_proposals <= ARM.proposals
    assert len(asked) - n_proposals <= ARM.answers + SPLITS["test"]
    assert len({str(one) for one in asked}) == len(asked)
    searched(provider, tmp_path, [])
    assert len(asked_by_base(provider)) == len(asked)


@with_gepa
def test_a_search_that_is_broken_off_goes_on_where_it_was(provider: AnsweringProvider, tmp_path: Path) -> None:
    undisturbed, _ = searched(provider, tmp_path / "whole", [])
    n_asked = len(asked_by_base(provider))
    provider.asked.clear()
    provider.answer = lambda asked: answer(asked) if len(asked_by_base(provider)) < 20 else refusal(401)
    broken, _ = searched(provider, tmp_path / "broken", [])
    assert (broken.entries, len(broken.left_out)) == ((), 1)
    answered = 20 - 1
    provider.asked.clear()
    provider.answer = answer
    again, _ = searched(provider, tmp_path / "broken", [])
    assert again.entries[0].prompt == undisturbed.entries[0].prompt
    assert len(asked_by_base(provider)) <= n_asked - answered


@pytest.mark.skipif(HAS_GEPA, reason="is about an environment without the extra `prompts`")
def test_without_the_package_the_arm_is_left_out_by_name_before_anything_is_asked(
    provider: AnsweringProvider, tmp_path: Path
) -> None:
    field, _ = searched(provider, tmp_path, [])
    assert [(one.name, "pip install 'finetune_assets[prompts]'" in one.why) for one in field.left_out] == [
        ("optimised_prompt", True)
    ]
    assert asked_by_base(provider) == []
    task = make_task(
        provider=provider.base_url, source={"kind": "elpv"}, benchmark={"arms": ["base", "optimised_prompt"]}
    )
    assert ["installs gepa" in found.words for found in provider_findings._arms(task)] == [True]
