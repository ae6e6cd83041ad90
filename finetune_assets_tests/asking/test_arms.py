"""A contest and a rescue at providers that refuse what the reports list: both come to their end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.asking.arms import Line, ask_arms, own_entry
from finetune_assets.asking.predictions import Asked, predict
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.evaluation.arms.contest import hold
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.rescue import Teacher, label
from finetune_assets.results.region import Outputs
from finetune_assets.task.arms import BaseArm, FrontierArm, TunedArm
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.provider.answering_provider import (
    AnsweringProvider,
    Response,
    answering_provider,
    refusal,
    text_of,
)
from finetune_assets_tests.provider.test_manners import CASES, NAMES

N = 24
CHATS_ALONE = refusal(404, "Not Found")


@pytest.fixture(autouse=True)
def a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")


REFUSED = ("more than 5 candidates", "everything")


@pytest.fixture(params=REFUSED)
def refused(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def provider(refused: str) -> Iterator[AnsweringProvider]:
    """Speaks of completions alone, and refuses what a case says."""
    refusing, _ = CASES[refused]

    def answer(asked: dict[str, Any]) -> Response:
        return refusing(asked) if "messages" in asked else CHATS_ALONE

    with answering_provider(AnsweringProvider(answer)) as serving:
        yield serving


def questions(folder: Path) -> Table:
    """Half of them are answered Yes, of both held-out splits."""
    rows = [
        {"example_id": f"e{n}", "split": split, "group": f"{split}{n}", "question": f"Is {n} even?", "image": None,
         "answer": "No" if n % 2 else "Yes", "score": float("nan"), "system": None}
        for split, first in (("test", 0), ("calibration", N))
        for n in range(first, first + N)
    ]  # fmt: skip
    return write_table(UPath(folder / "clean.parquet"), pd.DataFrame(rows))


def test_a_contest_with_a_frontier_model_that_refuses_is_held_to_its_end(
    provider: AnsweringProvider, tmp_path: Path
) -> None:
    clean, said = questions(tmp_path), []
    task = make_task(provider=provider.base_url, base_model=f"base-{next(NAMES)}", source={"kind": "elpv"})
    frontier = FrontierArm(provider=provider.base_url, model=f"frontier-{next(NAMES)}")
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        tuned = predict(provider.client(), Asked("tuned", task), clean.frame(), "fine_tuned", cache)
        line = Line(task, provider.client(), clean, tuned, cache, spent_usd=0, budget_usd=None, say=said.append)
        field, asked = ask_arms(line, (BaseArm(), frontier, TunedArm()))
        contest = hold(field, own_entry(line), [], task.answer)
    assert field.left_out == ()
    assert asked["error"].dropna().empty
    assert asked.query("role == 'frontier'")["predicted"].tolist() == ["Yes"] * N
    assert {arm.name: arm.value.estimate for arm in contest.ranked} == dict.fromkeys(("base", "frontier", "tuned"), 0.5)


def test_a_rescue_from_a_model_that_refuses_is_labelled_to_its_end(
    provider: AnsweringProvider, refused: str, tmp_path: Path
) -> None:
    task = make_task(task="old", provider=provider.base_url, source={"kind": "elpv"})
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text("".join(json.dumps({"text": f"Is {n} even?"}) + "\n" for n in range(N)))
    teacher = Teacher(
        task, f"ft:gpt-4o-2024-08-06:us::{next(NAMES)}", Outputs(str(tmp_path / "outputs"), str(tmp_path / "kept"))
    )
    made = label(teacher, "mono", inputs, tmp_path / "new", 0.2, lambda _: None)
    assert (made.n, made.refused) == (N, ())
    assert made.n_unweighed == (0 if "logprobs" in CASES[refused][1] else N)
    assert {text_of(asked) for asked in provider.asked} == {f"Is {n} even? Answer Yes or No." for n in range(N)}
