"""When the demo ends, and what its summary says of each kind of answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from finetune_assets.demo import progress
from finetune_assets.demo.results import has_contest
from finetune_assets.demo.results import results as results_of
from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.provider.fine_tuning import Progress
from finetune_assets.results.files import write_json
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer, TextAnswer
from finetune_assets_tests.evaluation import predictions as built
from finetune_assets_tests.pipeline.tasks import make_task

KEYS = [
    *("region", "base_model", "fine_tuned_model", "n_train", "n_validation", "n_calibration", "n_test"),
    *("metric", "base", "fine_tuned", "difference", "difference_ci95", "p_value"),
    *("ece_before", "ece_after", "brier_before", "brier_after", "trained_tokens", "training_seconds"),
]


def results(folder: Path, answer: Answer, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The summary of a region whose stages left these predictions."""
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", str(folder))
    task = make_task()
    table = pd.concat([table, table[table["role"] == "fine_tuned"].assign(split="calibration")])
    of = {split: calibration.evidence(table, split, answer) for split in ("calibration", "test")}
    fitted = calibration.fit(of["calibration"], answer, "ft:a")
    report = calibration.judge(fitted, of["test"], "ft:a").to_dict()
    made = {
        "training_jsonl": {"train": {"n_examples": 40}, "validation": {"n_examples": 10}},
        "finetuned_model": {"base_model": "m", "model": "ft:a", "trained_tokens": 5, "training_seconds": 1.5},
        "benchmark": compare(table, answer).to_dict(),
        "calibrator": {"calibrator": fitted.to_dict(), "report": report},
    }
    for stage, record in made.items():
        write_json(UPath(folder) / task.task / stage / "mono.json", record)
    return results_of(task, "mono")


def test_the_summary_of_a_binary_task_has_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = built.predictions()
    row = results(tmp_path, BinaryAnswer(kind="binary"), table, monkeypatch)
    assert list(row) == KEYS
    assert (row["metric"], row["n_test"], row["n_calibration"]) == ("accuracy", 120, 120)
    assert row["difference"] == pytest.approx(row["fine_tuned"] - row["base"])
    assert row["difference_ci95"][0] < row["difference"] < row["difference_ci95"][1]
    assert None not in row.values()


def test_the_summary_of_numbers_has_the_same_keys_without_calibration_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = results(tmp_path, NumberAnswer(kind="number", template="${}"), built.numbers(), monkeypatch)
    assert list(row) == KEYS
    assert row["metric"] == "within_tolerance"
    assert [key for key, value in row.items() if value is None] == [
        "ece_before",
        "ece_after",
        "brier_before",
        "brier_after",
    ]


def test_the_summary_of_texts_is_about_whether_they_hold_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = results(tmp_path, TextAnswer(kind="text"), built.texts(), monkeypatch)
    assert (row["metric"], None in row.values()) == ("contains_answer", False)


def test_a_region_has_ended_with_its_last_stage_or_a_failure() -> None:
    almost = progress.RegionState("mono", made=dict.fromkeys(progress.STAGES[:-1], 1.0))
    assert (almost.ended, almost.now) == (False, "champion")
    assert progress.RegionState("mono", made=dict.fromkeys(progress.STAGES, 1.0)).ended
    assert progress.RegionState("mono", failure="no memory").ended


def test_a_region_only_trains_while_its_job_goes_on() -> None:
    state = progress.RegionState("mono")
    assert not state.is_training
    state.training = Progress("running")
    assert state.is_training
    state.training = Progress("succeeded")
    assert not state.is_training


@given(st.dictionaries(st.sampled_from(progress.STAGES), st.integers(100, 900).map(float)))
def test_the_clock_of_a_region_adds_up_to_when_its_last_stage_was_made(made: dict[str, float]) -> None:
    clock = progress.clock(made, 100.0)
    assert clock.keys() == made.keys() and all(seconds >= 0 for seconds in clock.values())
    assert sum(clock.values()) == pytest.approx(max(made.values(), default=100.0) - 100)


def test_a_stage_took_as_long_as_it_is_since_the_one_before_it() -> None:
    made = {"filtered_qa": 12.5, "sampled_examples": 11.0, "finetune_job": 20.0}
    assert progress.clock(made, 10.0) == {"sampled_examples": 1.0, "filtered_qa": 1.5, "finetune_job": 7.5}


def test_a_contest_is_whole_when_every_arm_that_needs_no_network_has_answered_or_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", str(tmp_path))
    task, arms = make_task(), [{"kind": kind} for kind in ("base", "decisions", "few_shot", "tuned")]

    def whole(**contest: Any) -> bool:
        write_json(UPath(tmp_path) / task.task / "benchmark" / "mono.json", {"contest": contest})
        return has_contest(task, "mono")

    assert not has_contest(task, "mono")
    assert not whole(ranked=arms[:2], with_people=[{"kind": "cascade"}], left_out=[])
    assert whole(ranked=arms, with_people=[{"kind": "cascade"}], left_out=[])
    assert whole(ranked=arms, with_people=[], left_out=[{"name": "cascade"}])
