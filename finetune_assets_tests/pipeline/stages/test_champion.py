"""The asset that says which model answers for a region, run by Dagster on the reports of evaluated models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
from upath import UPath

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.calibration import PlattCalibrator
from finetune_assets.results.files import write_json
from finetune_assets.results.records import Judged
from finetune_assets.results.region import Outputs, Region
from finetune_assets.results.standing import standing
from finetune_assets_tests.evaluation.predictions import predictions
from finetune_assets_tests.pipeline.tasks import Project, evaluations, failures, make_task, words
from finetune_assets_tests.results.made import calibrated_as, trained_as

BASE = {"better": 0.5, "inconclusive": 0.85}
"""How often the base model is right, where the fine-tuned one is in 85 of 100."""


def evaluated(project: Project, model: str, outcome: str = "better", slope: float = 1.0) -> None:
    """Leave what the stages before leave of a model."""
    trained = trained_as(project.task, model)
    judged = Judged.model_validate(trained.model_dump(include={"task", "provider", "inputs", "model", "job_id"}))
    answers = predictions(base=BASE[outcome])
    curve = PlattCalibrator(
        kind="binary", model=model, fingerprint="f", n=120, n_positive=50, slope=slope, intercept=0.0
    )
    calibrated = calibrated_as(trained, answers.assign(model=model), calibrator=curve)
    report = compare(answers).to_dict()
    made = {
        "finetuned_model": trained.model_dump(mode="json"),
        "benchmark": report | {"judged": judged.model_dump(mode="json")},
        "calibrator": calibrated.model_dump(mode="json"),
    }
    for stage, record in made.items():
        write_json(UPath(project.output(stage, ".json")), record)


def decide(project: Project, **choice: Any) -> dg.ExecuteInProcessResult:
    result = project.run("champion", config={"champion": choice})
    assert result.success, failures(result)
    return result


def champion(project: Project) -> str | None:
    now = standing(Region(project.task, "mono", Outputs(root=str(project.root)))).champion
    return now and now.model


def test_a_better_model_answers_for_its_region_at_once(tmp_path: Path) -> None:
    project = Project(make_task(), tmp_path)
    evaluated(project, "ft:first")
    result = decide(project)
    assert champion(project) == project.metadata("champion")["champion"] == "ft:first"
    assert evaluations(result)["promoted"].passed
    assert "| ft:first | accuracy | 0.8583 | 120 | checks |" in project.metadata("champion")["history"]


def test_what_was_asked_of_a_model_is_shown_with_its_answers(tmp_path: Path) -> None:
    project = Project(make_task(regions=["mono", "poly"]), tmp_path)
    evaluated(project, "ft:first")
    decide(project)
    decided = project.metadata("champion")["decided"]
    assert "| Is it better than its base model? | True | it is better than its base model: +" in decided
    assert "as attempt 1 in one of 2 regions" in decided


def test_a_model_that_is_not_better_leaves_the_champion_and_the_check_says_why(tmp_path: Path) -> None:
    project = Project(make_task(), tmp_path)
    evaluated(project, "ft:first")
    decide(project)
    evaluated(project, "ft:second", outcome="inconclusive")
    result = decide(project)
    assert champion(project) == "ft:first" and project.metadata("champion")["candidate"] == "ft:second"
    said = words(result, "promoted")
    assert (
        "ft:second is not its champion" in said
        and "it is not shown to be better than its base model" in said
        and said.endswith("Now ft:first answers for it.")
    )


def test_a_champion_that_its_checks_object_to_by_now_goes_on_with_a_warning(tmp_path: Path) -> None:
    project = Project(make_task(), tmp_path)
    evaluated(project, "ft:first")
    decide(project)
    evaluated(project, "ft:first", outcome="inconclusive", slope=2.0)
    said = words(decide(project), "promoted")
    assert champion(project) == "ft:first"
    assert said.startswith("Region mono: ft:first answers for it, but by now: it is not shown to be better")


def test_where_the_task_asks_for_it_a_person_approves_in_the_launchpad(tmp_path: Path) -> None:
    project = Project(make_task(promotion="approval"), tmp_path)
    evaluated(project, "ft:first")
    assert "a person has to approve it" in words(decide(project), "promoted")
    assert champion(project) is None
    decide(project, approved_by="Anna")
    assert champion(project) == "ft:first"
    assert "| approval | Anna |" in project.metadata("champion")["history"]


def test_an_earlier_champion_is_one_run_away(tmp_path: Path) -> None:
    project = Project(make_task(), tmp_path)
    for model in ("ft:first", "ft:second"):
        evaluated(project, model)
        decide(project)
    assert project.metadata("champion")["ways_back"] == "ft:first"
    decide(project, roll_back_to="ft:first", approved_by="Anna")
    assert champion(project) == "ft:first"
    decide(project)
    assert champion(project) == "ft:first"


def test_a_way_back_to_an_unknown_model_names_those_there_are(tmp_path: Path) -> None:
    project = Project(make_task(), tmp_path)
    evaluated(project, "ft:first")
    result = project.run("champion", config={"champion": {"roll_back_to": "ft:none"}})
    assert "ways back lead to: none" in failures(result)
