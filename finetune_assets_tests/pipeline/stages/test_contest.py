"""The contest of a region's benchmark, against the real server."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from finetune_assets.errors import EvaluationError
from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.pipeline.stages.contest import ArmsChoice, arms_of
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task

pytestmark = [pytest.mark.xdist_group("finished_region"), pytest.mark.usefixtures("local_key")]
ARMS = [
    "base",
    "decisions",
    {"kind": "few_shot", "examples": 2},
    {"kind": "frontier", "provider": "openai", "model": "gpt-6-sol"},
    "tuned",
    "cascade",
    {"kind": "cascade", "name": "to_shots", "to": "few_shot"},
]


@pytest.fixture(scope="module")
def contested(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished region in a project of its own, its arms asked; the model and its answers are found again."""
    folder = tmp_path_factory.mktemp("contested")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("OPENAI_API_KEY", raising=False)
        environment.setenv("FINETUNE_ASSETS_API_KEY", finished.key)
        benchmark = finished.project.task.benchmark.model_validate({"arms": ARMS})
        project = Project(finished.project.task.model_copy(update={"benchmark": benchmark}), folder)
        for stages in (PREPARE, EVALUATE):
            made = project.run(*stages)
            assert made.success, failures(made)
    return project


def found(project: Project) -> dict[str, Any]:
    return json.loads(project.output("benchmark", ".json").read_text())["contest"]


def test_every_arm_is_asked_the_same_test_examples(contested: Project) -> None:
    asked = pd.read_parquet(contested.output("benchmark", ".arms.parquet"))
    clean = pd.read_parquet(contested.output("filtered_qa", ".parquet"))
    test = set(clean.loc[clean["split"] == "test", "example_id"])
    by_arm = asked.loc[asked["split"] == "test"].groupby("role")["example_id"].agg(set).to_dict()
    assert by_arm == dict.fromkeys(("base", "decisions", "few_shot", "tuned"), test)


def test_the_calibration_split_is_asked_of_what_a_cascade_needs_alone(contested: Project) -> None:
    asked = pd.read_parquet(contested.output("benchmark", ".arms.parquet"))
    assert set(asked.loc[asked["split"] == "calibration", "role"]) == {"few_shot", "tuned"}


def test_an_arm_without_a_key_is_left_out_and_it_is_said_why(contested: Project) -> None:
    [left_out] = [one for one in found(contested)["left_out"] if one["name"] == "frontier"]
    assert "no API key for the provider 'openai': set OPENAI_API_KEY" in left_out["why"]
    assert "OPENAI_API_KEY" in contested.output("benchmark", ".html").read_text()


def test_the_arms_are_ranked_and_one_is_recommended(contested: Project) -> None:
    contest = found(contested)
    shares = [arm["value"]["estimate"] for arm in contest["ranked"]]
    assert shares == sorted(shares, reverse=True)
    assert contest["advice"]["arm"] in {arm["name"] for arm in contest["ranked"]}
    assert {arm["name"] for arm in contest["ranked"]} == {"base", "decisions", "few_shot", "tuned", "to_shots"}


def test_the_fine_tuned_arm_has_the_calibration_error_that_the_calibrator_has(contested: Project) -> None:
    [tuned] = [arm for arm in found(contested)["ranked"] if arm["name"] == "tuned"]
    calibrator = json.loads(contested.output("calibrator", ".json").read_text())
    assert tuned["calibration_error"]["estimate"] == pytest.approx(calibrator["report"]["after"]["ece"]["estimate"])
    assert tuned["is_calibrated"]


def test_the_page_and_dagster_show_the_contest_beside_what_later_stages_add(contested: Project) -> None:
    page = contested.output("benchmark", ".html").read_text()
    assert page.index("What else could answer") > page.index("<h2>In use</h2>")
    shown = contested.metadata("benchmark")
    assert shown["recommended_arm"] == found(contested)["advice"]["arm"]
    assert "| to_shots |" in shown["contest"]


def test_a_rerun_asks_nothing_again(contested: Project) -> None:
    before = contested.output("benchmark", ".arms.parquet")
    first = pd.read_parquet(before)
    assert contested.run("benchmark").success
    # The same latencies: these are the very answers.
    pd.testing.assert_frame_equal(pd.read_parquet(before), first)


def test_a_region_without_arms_has_no_contest(finished: Finished) -> None:
    assert "contest" not in json.loads(finished.project.output("benchmark", ".json").read_text())
    assert not finished.project.output("benchmark", ".arms.parquet").exists()


def test_arms_that_need_no_network_are_asked_for_one_run_beside_those_of_the_yaml() -> None:
    named = {"arms": ["tuned", {"kind": "few_shot", "examples": 9}]}
    asked = arms_of(make_task(benchmark=named), ArmsChoice(local_arms=True))
    assert [arm.kind for arm in asked] == ["tuned", "few_shot", "base", "decisions", "cascade"]
    assert arms_of(make_task(), ArmsChoice()) == ()


def test_no_arm_at_a_hosted_provider_is_asked_because_it_needs_no_network() -> None:
    with pytest.raises(EvaluationError, match="no arm needs no network where the provider is openai"):
        arms_of(make_task(provider="openai"), ArmsChoice(local_arms=True))
