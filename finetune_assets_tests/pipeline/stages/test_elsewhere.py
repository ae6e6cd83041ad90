"""Questions that a fine-tuned model was not trained for, put to the real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_assets.pipeline.stage import PREPARE
from finetune_assets.pipeline.stages.elsewhere import forgotten
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.results.region import Outputs, Region
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.pipeline.stages.test_killed_runs import write_questions
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task
from finetune_assets_tests.server_process import ServerProcess

REGIONS = ["north", "south", "south.east"]

pytestmark = pytest.mark.xdist_group("finished_region")


@pytest.fixture
def project(server: ServerProcess, tmp_path: Path) -> Project:
    """Three regions with their clean examples."""
    task = make_task(
        regions=REGIONS,
        source=write_questions(tmp_path, REGIONS),
        base_model="tiny-text",
        provider=server.base_url,
        benchmark={"elsewhere": 10},
    )
    project = Project(task, tmp_path / "outputs")
    for region in REGIONS:
        done = project.run(*PREPARE[:3], region=region)
        assert done.success, failures(done)
    return project


def test_both_models_answer_examples_of_the_other_regions_and_general_questions(
    project: Project, server: ServerProcess, tmp_path: Path
) -> None:
    region = Region(project.task, "south", Outputs(root=str(project.root)))
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        others, general = forgotten(server.client(), region, "gpt-4o-mini", cache)
    assert (others.of, others.n, general.of, general.n) == ("other regions", 10, "general questions", 10)
    # The alias is the same model, which has forgotten nothing.
    assert others.difference.estimate == general.difference.estimate == 0
    assert (others.outcome, general.outcome) == ("inconclusive", "inconclusive")


def test_a_region_that_was_taken_out_of_the_task_is_asked_no_more(
    project: Project, server: ServerProcess, tmp_path: Path
) -> None:
    alone = project.task.model_copy(update={"regions": ["south"]})
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        region = Region(alone, "south", Outputs(root=str(project.root)))
        [general] = forgotten(server.client(), region, "gpt-4o-mini", cache)
    assert general.of == "general questions"


def test_a_task_may_ask_none(project: Project, server: ServerProcess, tmp_path: Path) -> None:
    task = project.task.model_copy(update={"benchmark": project.task.benchmark.model_copy(update={"elsewhere": 0})})
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        assert forgotten(server.client(), Region(task, "south", Outputs(root=str(project.root))), "m", cache) == []


def test_the_benchmark_keeps_what_was_found(finished: Finished) -> None:
    report = json.loads(finished.project.output("benchmark", ".json").read_text())
    [general] = report["elsewhere"]
    assert (general["of"], general["n"]) == ("general questions", 40)
    assert "Elsewhere, general questions (n = 40)" in finished.project.output("benchmark", ".html").read_text()
