"""A champion that answers by itself in use: its promise is checked, and what it is asked is watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from finetune_assets.asking.predictions import DTYPES
from finetune_assets.evaluation.answering import Rule
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.promotion import Champion, Standing
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.offers import ReviewItem, offer
from finetune_assets.feedback.store.usage import count
from finetune_assets.pipeline.following.use_watch import use_sensor
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.stages.in_use import judged, reference
from finetune_assets.results.files import write_json, write_parquet
from finetune_assets.results.region import Outputs, Region
from finetune_assets_tests.feedback.store.builders import judges_blind
from finetune_assets_tests.feedback.store.test_in_use import ask
from finetune_assets_tests.pipeline.tasks import make_task

MODEL = "ft:m"
DEFER = {"defer": {"target_accuracy": 0.9}}
RULE = Rule(least=0.8, unproved=0.8)


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FeedbackDatabase]:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{tmp_path / 'feedback.sqlite'}")
    with FeedbackDatabase() as opened:
        yield opened


def answered(n: int = 200, n_wrong: int = 6) -> pd.DataFrame:
    """The champion's sure answers to held-out examples, some of them wrong."""
    rows = [
        {
            "example_id": f"e{k}", "split": ("test", "calibration")[k % 2], "role": "fine_tuned", "model": MODEL,
            "truth": "No" if k < 2 * n_wrong else "Yes", "text": "Yes", "predicted": "Yes", "p_positive": 0.97,
            "p_predicted": 0.97, "group": f"e{k}", "question": "Is it?", "prompt_tokens": 1, "completion_tokens": 1,
            "truncated": False, "doubtful": False,
        }
        for k in range(2 * n)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def platt() -> PlattCalibrator:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=400)
    return PlattCalibrator.fit(p, (rng.uniform(size=400) < p).astype(float), model=MODEL)


def a_region(folder: Path, **task: object) -> Region:
    return Region(make_task(task="cells", **{"benchmark": DEFER, **task}), "mono", Outputs(root=str(folder)))


def champion(region: Region, predictions: pd.DataFrame) -> Champion:
    """Leave a champion and its predictions where the stages do."""
    write_parquet(region.path("benchmark", ".parquet"), predictions)
    counted = reference(region, predictions, platt(), RULE)
    made = Champion(
        model=MODEL, provider="local", base_model="b", job_id="j", calibrator=platt().to_dict(), task_fingerprint="f",
        metric="accuracy", value=0.9, n_test=200, since="2026", way="checks", rule=asdict(RULE),
        reference=counted and counted.to_dict(),
    )  # fmt: skip
    write_json(region.path("champion", ".json"), Standing((made,)).to_dict())
    return made


def reviewed(db: FeedbackDatabase, names: list[str], answer: str) -> None:
    """Two reviewers judge test examples blind."""
    offer(db, "cells", "mono", [_item(name) for name in names])
    for name in names:
        for reviewer in ("ann", "bob"):
            judges_blind(db, reviewer, name, answer)


def _item(name: str) -> ReviewItem:
    return ReviewItem(
        task="cells", region="mono", example_id=name, content=f"c-{name}", split="test", question="Is it?",
        label="Yes", label_value=1.0, kind="binary", options=("Yes", "No"),
    )  # fmt: skip


def test_feedback_on_the_test_split_breaks_a_promise_that_held(db: FeedbackDatabase, tmp_path: Path) -> None:
    region = a_region(tmp_path)
    made = champion(region, answered())
    [before] = judged(region, made)
    assert before.passed and "97.0 %" in str(before.description) and "keeps the promise" in str(before.description)
    reviewed(db, [f"e{2 * k}" for k in range(50, 80)], "No")
    [after] = judged(region, made)
    assert not after.passed and after.check_name == "promise_stands"
    assert "82.0 % (76.1 to 86.7) are right, which breaks the promise" in str(after.description)


def test_answers_that_people_find_wrong_in_use_break_the_promise(db: FeedbackDatabase, tmp_path: Path) -> None:
    region = a_region(tmp_path, in_use={"review": True})
    made = champion(region, answered())
    for k in range(40):
        name = ask(db, f"question {k}", "Yes", given=True)
        judges_blind(db, "ann", name, "No" if k % 3 == 0 else "Yes", queue="in_use")
    [found] = judged(region, made)
    assert not found.passed
    assert "of 40 answers given without a person that reviewers checked blind, 65.0 %" in str(found.description)
    others = replace(made, model="ft:other", calibrator=made.calibrator | {"model": "ft:other"})
    [unasked] = judged(region, others)
    assert unasked.passed, "what another model was asked says nothing of it"


def test_what_is_asked_is_compared_with_the_held_out_examples(db: FeedbackDatabase, tmp_path: Path) -> None:
    region = a_region(tmp_path, benchmark={}, in_use={"watch": True})
    predictions = answered()
    predictions["p_positive"] = np.linspace(0.01, 0.99, len(predictions))
    made = champion(region, predictions)
    assert made.reference is not None
    [nothing] = judged(region, made)
    assert nothing.passed and "fewer than 30 questions" in str(nothing.description)
    count(db, "cells", "mono", MODEL, {("score", k): 12 for k in range(10)})
    [alike] = judged(region, made)
    assert alike.passed and "120 questions of the last 30 days against 400" in str(alike.description)
    count(db, "cells", "mono", MODEL, {("score", 9): 120})
    [other] = judged(region, made)
    assert not other.passed and "drifted: the model's own score: stability index" in str(other.description)
    [unknown] = judged(region, replace(made, reference=None))
    assert not unknown.passed and "were not counted" in str(unknown.description)


def test_a_sensor_says_it_once_without_any_run(db: FeedbackDatabase, tmp_path: Path) -> None:
    region = a_region(tmp_path, in_use={"review": True})
    champion(region, answered())
    with dg.DagsterInstance.ephemeral() as instance:
        sensor, resources = use_sensor(region.task), {"outputs": OutputsResource(root=str(tmp_path))}
        first = sensor(dg.build_sensor_context(instance, resources=resources))
        assert isinstance(first, dg.SensorResult)
        [said] = first.asset_events
        assert isinstance(said, dg.AssetCheckEvaluation) and said.passed and said.partition == "mono"
        again = sensor(dg.build_sensor_context(instance, cursor=first.cursor, resources=resources))
        assert isinstance(again, dg.SensorResult) and not again.asset_events
        reviewed(db, [f"e{2 * k}" for k in range(50, 80)], "No")
        later = sensor(dg.build_sensor_context(instance, cursor=first.cursor, resources=resources))
        assert isinstance(later, dg.SensorResult) and len(later.asset_events) == 1


def test_a_task_that_promises_and_watches_nothing_has_no_such_checks(tmp_path: Path) -> None:
    region = a_region(tmp_path, benchmark={})
    assert not list(judged(region, None))
    [none_yet] = judged(a_region(tmp_path), None)
    assert none_yet.passed and "no model answers for it yet" in str(none_yet.description)
