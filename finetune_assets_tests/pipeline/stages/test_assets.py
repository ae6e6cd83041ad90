"""The assets, run by Dagster on real pictures against the real server."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import openai
import pandas as pd
import pytest

from finetune_assets.pipeline.stage import EVALUATE, PREPARE, asset_key
from finetune_assets.training_file import validation
from finetune_assets.training_file.target import LOCAL
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.pipeline.tasks import STAGES, Project, evaluations, failures, make_task, words, write_cells
from finetune_assets_tests.server_process import ServerProcess

UP_TO_REPORT = PREPARE[:5]

# All tests of this file in one process, so that the finished region is made once.
pytestmark = pytest.mark.xdist_group("finished_region")


def tables(project: Project) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Sampled, clean and quarantined examples."""
    return (
        pd.read_parquet(project.output("sampled_examples", ".parquet")),
        pd.read_parquet(project.output("filtered_qa", ".parquet")),
        pd.read_parquet(project.output("filtered_qa", ".quarantine.parquet")),
    )


def test_a_region_goes_through_all_stages(finished: Finished) -> None:
    assert all(finished.project.made(stage) for stage in STAGES)


def test_clean_and_quarantined_examples_add_up_to_the_sampled_ones(finished: Finished) -> None:
    sampled, clean, quarantine = tables(finished.project)
    assert set(clean["example_id"]) | set(quarantine["example_id"]) == set(sampled["example_id"])
    assert len(clean) + len(quarantine) == len(sampled)


def test_the_files_that_are_sent_hold_the_clean_examples_of_their_split_only(finished: Finished) -> None:
    _, clean, _ = tables(finished.project)
    for split in ("train", "validation"):
        lines = finished.project.output("training_jsonl", f"/{split}.jsonl").read_text().splitlines()
        assert len(lines) == (clean["split"] == split).sum()


def test_what_the_provider_holds_is_what_was_built(finished: Finished, client: openai.OpenAI) -> None:
    uploaded = json.loads(finished.project.output("uploaded_file", ".json").read_text())
    for split in ("train", "validation"):
        built = finished.project.output("training_jsonl", f"/{split}.jsonl").read_bytes()
        assert client.files.content(uploaded[split]["id"]).read() == built


def test_the_model_is_the_one_that_the_job_made(finished: Finished) -> None:
    model = json.loads(finished.project.output("finetuned_model", ".json").read_text())
    assert model["model"] == finished.job.fine_tuned_model
    assert model["trained_tokens"] == finished.job.trained_tokens


def test_there_is_a_loss_for_each_step(finished: Finished) -> None:
    losses = pd.read_parquet(finished.project.output("finetuned_model", ".losses.parquet"))
    # Every training example is a batch of its own, eight times.
    n_steps = 8 * finished.project.metadata("training_jsonl")["n_train"]
    assert losses["step"].tolist() == list(range(1, n_steps + 1))
    assert len(losses["train_loss"].dropna()) == n_steps
    assert 0 < finished.project.metadata("finetuned_model")["training_seconds"] < 300


def test_the_training_is_judged_by_its_losses(finished: Finished) -> None:
    found = evaluations(finished.evaluated)
    assert [found[name].passed for name in ("training_converged", "no_overfitting", "enough_steps")] == [True] * 3
    assert "steps were trained" in words(finished.evaluated, "enough_steps")


def test_a_model_that_nobody_announced_to_go_stays(finished: Finished) -> None:
    assert evaluations(finished.prepared)["base_model_stays"].passed
    assert evaluations(finished.evaluated)["model_stays"].passed


@pytest.mark.usefixtures("local_key")
def test_an_earlier_checkpoint_is_taken_on_request_and_its_absence_is_explained(
    finished: Finished, client: openai.OpenAI, tmp_path: Path
) -> None:
    listed = client.fine_tuning.jobs.checkpoints.list(finished.job.id).data
    earliest = min(listed, key=lambda checkpoint: checkpoint.step_number)
    project = Project(finished.project.task, tmp_path)
    assert project.run(*PREPARE).success
    absent = project.run("finetuned_model", config={"finetuned_model": {"checkpoint_step": 1}})
    assert f"has no checkpoint at step 1: there are some at the steps {earliest.step_number}" in failures(absent)
    taken = project.run("finetuned_model", config={"finetuned_model": {"checkpoint_step": earliest.step_number}})
    assert taken.success
    model = json.loads(project.output("finetuned_model", ".json").read_text())
    assert (model["model"], model["checkpoint_step"]) == (
        earliest.fine_tuned_model_checkpoint,
        earliest.step_number,
    )
    assert f"| {earliest.step_number} | {earliest.id} |" in project.metadata("finetuned_model")["checkpoints"]


def test_fine_tuning_is_compared_with_retrieval_for_a_task_that_says_what_it_is_for(tmp_path: Path) -> None:
    costs = {"requests_per_month": 100_000, "retrieved_tokens": 1500, "storage_gb": 1, "storage_usd_per_gb_month": 3}
    task = make_task(source=write_cells(tmp_path / "cells"), provider="openai", costs=costs)
    project = Project(task, tmp_path / "outputs")
    assert project.run(*UP_TO_REPORT).success
    report = json.loads(project.output("validation_report", ".json").read_text())
    estimate, compared = report["estimate"], report["costs"]
    # All of an example's tokens but the one of its answer are the prompt's; gpt-4o asks 3.75 and 15 USD a million.
    n_train = project.metadata("training_jsonl")["n_train"]
    per_request = ((estimate["tokens"] / n_train - 1) * 3.75 + 15) / 1e6
    assert compared["fine_tuning"]["usd_per_request"] == pytest.approx(per_request)
    assert compared["fine_tuning"]["usd"][0] == pytest.approx(estimate["cost_usd"])
    assert compared["retrieval"]["usd_without_requests"][12] == pytest.approx(12 * 3)
    page = project.output("validation_report", ".html").read_text()
    assert "Fine-tuning or retrieval" in page and compared["reason"] in page
    assert compared["reason"] in project.metadata("validation_report")["fine_tuning_or_retrieval"]


def test_the_model_has_learned_to_tell_bright_from_dark(finished: Finished) -> None:
    shown = finished.project.metadata("benchmark")
    assert shown["fine_tuned_accuracy"] > shown["base_accuracy"] + 0.5
    assert evaluations(finished.evaluated)["better_than_base"].passed


def test_the_test_split_is_asked_of_both_models_and_the_calibration_split_of_one(finished: Finished) -> None:
    _, clean, _ = tables(finished.project)
    predictions = pd.read_parquet(finished.project.output("benchmark", ".parquet"))
    asked = predictions.groupby(["role", "split"]).size().to_dict()
    n = clean["split"].value_counts()
    assert asked == {
        ("base", "test"): n["test"],
        ("fine_tuned", "test"): n["test"],
        ("fine_tuned", "calibration"): n["calibration"],
    }


def test_the_calibrator_is_fitted_on_the_calibration_split_and_judged_on_the_test_split(finished: Finished) -> None:
    predictions = pd.read_parquet(finished.project.output("benchmark", ".parquet"))
    scored = predictions.loc[(predictions["role"] == "fine_tuned") & predictions["p_positive"].notna()]
    n = scored["split"].value_counts()
    made = json.loads(finished.project.output("calibrator", ".json").read_text())
    assert made["calibrator"]["n"] == n["calibration"]
    assert made["report"]["n"] == n["test"]


def test_the_calibrator_says_which_job_and_task_it_belongs_to(finished: Finished) -> None:
    shown = finished.project.metadata("calibrator")
    assert shown["job_id"] == finished.job.id == finished.project.metadata("finetune_job")["job_id"]
    assert shown["model"] == finished.job.fine_tuned_model
    assert len(shown["task_fingerprint"]) == 64


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ("sampled_examples", "contact_sheet"),
        ("filtered_qa", "by_split_and_label"),
        ("training_jsonl", "first_examples"),
        ("training_jsonl", "tokens_per_example"),
        ("finetuned_model", "loss_curve"),
        ("benchmark", "confusion_matrix"),
        ("calibrator", "reliability"),
    ],
)
def test_a_person_sees_a_small_picture(finished: Finished, stage: str, shown: str) -> None:
    text = finished.project.metadata(stage)[shown]
    assert "](data:image/png;base64,iVBOR" in text
    assert len(text) < 100_000


def test_the_reports_are_pages(finished: Finished) -> None:
    for stage in ("validation_report", "benchmark"):
        assert finished.project.output(stage, ".html").read_text().lower().startswith("<!doctype html>")


def test_the_key_is_nowhere_in_what_was_stored(finished: Finished, server: ServerProcess) -> None:
    events = "".join(str(event) for run in (finished.prepared, finished.evaluated) for event in run.all_events)
    assert server.key not in events
    for path in finished.project.root.rglob("*"):
        assert not path.is_file() or server.key.encode() not in path.read_bytes()


@pytest.mark.usefixtures("local_key")
def test_preparing_the_same_data_again_uploads_nothing_and_submits_nothing(finished: Finished, tmp_path: Path) -> None:
    again = Project(finished.project.task, tmp_path)
    assert again.run(*PREPARE).success
    uploaded = json.loads(again.output("uploaded_file", ".json").read_text())
    assert [uploaded[split]["reused"] for split in ("train", "validation")] == [True, True]
    shown = again.metadata("finetune_job")
    assert (shown["job_id"], shown["reused"]) == (finished.job.id, True)


def test_a_region_of_five_examples_ends_in_a_check_that_says_so(tmp_path: Path) -> None:
    project = Project(make_task(source=write_cells(tmp_path / "cells", n=5)), tmp_path / "outputs")
    result = project.run(*UP_TO_REPORT)
    assert not result.success
    said = words(result, "enough_examples")
    counted = tables(project)[1]["split"].value_counts()
    assert f"Region mono has {counted.get('train', 0)} for train" in said
    assert "at least 10 for train, 1 for validation and 3 groups in calibration and in test" in said
    assert project.made("filtered_qa") and not project.made("training_jsonl")


def test_a_region_that_is_not_in_the_data_is_refused_by_name(tmp_path: Path) -> None:
    source = write_cells(tmp_path / "cells", n=5, region="poly")
    project = Project(make_task(source=source), tmp_path / "outputs")
    result = project.run(*UP_TO_REPORT)
    assert not result.success
    assert "nothing in it is of the region 'mono'" in failures(result)


def test_broken_images_and_lines_are_quarantined_by_name(tmp_path: Path) -> None:
    source = write_cells(
        tmp_path / "cells",
        extra=[
            '{"image_url": "broken.png", "score": 1, "region": "mono"}',
            '{"image_url": "missing.png", "score": 0, "region": "mono"}',
            '{"image_url": "mono-1.png", "score": 0, "reg',
        ],
    )
    (tmp_path / "cells/broken.png").write_bytes((tmp_path / "cells/mono-3.png").read_bytes()[:60])
    project = Project(make_task(source=source), tmp_path / "outputs")
    assert project.run(*UP_TO_REPORT).success
    quarantine = tables(project)[2].set_index("line")["reason"].to_dict()
    assert quarantine == {81: "image_truncated", 82: "image_missing", 83: "malformed_line"}
    assert "image_truncated" in project.metadata("filtered_qa")["quarantine"]


def test_one_answer_only_is_refused_before_a_file_is_built(tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    source = write_cells(folder)
    table = folder / "cells.jsonl"
    table.write_text(table.read_text().replace('"score": 1.0', '"score": 0.0'))
    project = Project(make_task(source=source), tmp_path / "outputs")
    result = project.run(*UP_TO_REPORT)
    assert not result.success and not project.made("training_jsonl")
    assert "train has no 'Yes'" in words(result, "both_answers")


def test_a_cost_over_the_budget_stops_before_the_upload(tmp_path: Path) -> None:
    task = make_task(source=write_cells(tmp_path / "cells"), provider="openai", budget_usd=0.01)
    project = Project(task, tmp_path / "outputs")
    result = project.run(*PREPARE)
    assert not result.success and not project.made("uploaded_file")
    assert "budget is 0.01 USD; raise budget_usd" in words(result, "within_budget")


def test_a_budget_may_be_a_region_s_own(tmp_path: Path) -> None:
    task = make_task(source=write_cells(tmp_path / "cells"), provider="openai", budget_usd={"mono": 0.01})
    result = Project(task, tmp_path / "outputs").run(*PREPARE)
    assert not result.success and "the budget is 0.01 USD" in words(result, "within_budget")


def test_an_unknown_price_under_a_budget_stops_unless_the_yaml_says_otherwise(tmp_path: Path) -> None:
    task = make_task(source=write_cells(tmp_path / "cells"), provider="https://example.com/v1", budget_usd=5)
    result = Project(task, tmp_path / "outputs").run(*UP_TO_REPORT)
    assert not result.success and "state `prices`" in words(result, "within_budget")
    allowed = task.model_copy(update={"checks": {"within_budget": "warn"}})
    result = Project(allowed, tmp_path / "outputs").run(*UP_TO_REPORT)
    assert result.success
    evaluation = evaluations(result)["within_budget"]
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_region_whose_budget_nobody_names_may_cost_nothing(tmp_path: Path) -> None:
    source = write_cells(tmp_path / "cells")
    task = make_task(source=source, regions=["mono", "poly"], provider="openai", budget_usd={"poly": 5})
    result = Project(task, tmp_path / "outputs").run(*UP_TO_REPORT)
    assert not result.success
    assert 'name mono, or "*" for those that are not named, in budget_usd' in words(result, "within_budget")


@pytest.mark.usefixtures("local_key")
def test_a_job_without_a_model_materialises_none_and_says_why(
    finished: Finished, client: openai.OpenAI, tmp_path: Path
) -> None:
    changed = finished.project.task.model_copy(
        update={"method": finished.project.task.method.model_copy(update={"seed": 1, "n_epochs": 50})}
    )
    project = Project(changed, tmp_path)
    assert project.run(*PREPARE).success
    job_id = project.metadata("finetune_job")["job_id"]
    running = project.run(*EVALUATE)
    client.fine_tuning.jobs.cancel(job_id)
    cancelled = project.run("finetuned_model")
    assert running.success and not cancelled.success and not project.made("finetuned_model")
    [said] = project.instance.fetch_observations(asset_key(project.task, "finetuned_model"), limit=9).records
    assert "the sensor goes on when it has succeeded" in str(
        said.asset_observation and said.asset_observation.description
    )
    assert not running.get_asset_check_evaluations()
    assert f"Region mono: job {job_id} cancelled" in words(cancelled, "job_succeeded")
    assert f"Region mono: job {job_id} cancelled" in failures(cancelled)


def test_the_report_on_disk_is_the_published_shape(finished: Finished) -> None:
    train, held_back = (finished.project.output("training_jsonl", f"/{s}.jsonl") for s in ("train", "validation"))
    report = json.loads(finished.project.output("validation_report", ".json").read_text())
    estimate = report["estimate"]
    assert {name: report[name] for name in ("ok", "files")} == validation.validate(train, held_back, LOCAL).to_dict()
    assert estimate == {"tokens": report["files"][0]["tokens"]["total"], "epochs": 8, "cost_usd": 0.0}
