"""What stages hand on says where it came from, and is refused elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest
from upath import UPath

from finetune_assets.errors import RecordError
from finetune_assets.results.files import write_json
from finetune_assets.results.records import Calibrated, Submitted, Trained, require_same_model
from finetune_assets.results.region import Outputs, Region
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.results.made import trained_as

TASK = make_task(provider="https://one.example/v1")
REGION = Region(TASK, "mono", Outputs("nowhere"))


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="k")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    made = trained_as(TASK, "ft:a", inputs={"train": "ab"})
    write_json(UPath(tmp_path) / "mono.json", made.model_dump(mode="json"))
    assert Trained.read(UPath(tmp_path) / "mono.json") == made


def test_a_record_of_an_earlier_version_is_refused_by_name_with_the_stage_to_make_again(tmp_path: Path) -> None:
    path = tmp_path / "mono.json"
    path.write_text(json.dumps({"job_id": "ftjob-1", "fingerprint": "f", "reused": False, "status": "running"}))
    with pytest.raises(RecordError, match=r"mono.json: task: Field required.*materialise finetune_job of this region"):
        Submitted.read(UPath(path))
    path.write_text("{half")
    with pytest.raises(RecordError, match="mono.json: the file: Invalid JSON"):
        Submitted.read(UPath(path))
    with pytest.raises(RecordError, match="none.json is not there: materialise finetune_job of this region first"):
        Submitted.read(UPath(tmp_path / "none.json"))


@pytest.mark.parametrize(
    "changed",
    [
        {"description": "another"},
        {"budget_usd": 3.0},
        {"promotion": "approval"},
        {"rerun": {}},
        {"regions": ["a", "mono"]},
    ],
)
def test_what_no_model_learns_from_makes_no_record_another_one_s(changed: dict[str, object]) -> None:
    now = Region(make_task(provider=TASK.provider, **changed), "mono", REGION.outputs)
    trained_as(TASK, "ft:a").require_same_question(now)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"prompt": {"user": "Well: {question}"}}, "`prompt`"),
        ({"answer": {"kind": "binary", "positive": "Ja", "negative": "Nein"}}, "`answer`"),
    ],
)
def test_what_was_made_for_another_question_is_refused(changed: dict[str, object], named: str) -> None:
    now = Region(make_task(**changed), "mono", REGION.outputs)
    with pytest.raises(RecordError, match=f"region mono: finetuned_model was made when the task's {named} said"):
        trained_as(TASK, "ft:a").require_same_question(now)


def test_ids_of_another_provider_are_refused_with_both_ways_out() -> None:
    here, there = client("https://one.example/v1/"), client("https://two.example/v1/")
    made = trained_as(TASK, "ft:a", provider={"name": TASK.provider, "address": str(here.base_url)})
    made.require_same_provider(REGION, here)
    with pytest.raises(RecordError, match=r"finetuned_model belongs to the provider https://one.*Set `provider` back"):
        made.require_same_provider(REGION, there)


def test_what_was_found_out_about_another_model_is_refused() -> None:
    model = trained_as(TASK, "ft:new")
    old = Calibrated(
        task=model.task,
        provider=model.provider,
        inputs={},
        model="ft:old",
        job_id="job of ft:old",
        calibrator={},
        report={},
        rule=None,
        use=None,
        task_fingerprint="f",
    )
    with pytest.raises(RecordError, match=r"calibrator is of ft:old .* the newest model is ft:new"):
        require_same_model(REGION, model, old)
