"""What stages hand on says where it came from, and is refused elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pandas as pd
import pytest
from upath import UPath

from finetune_assets.errors import RecordError
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.results.files import write_json
from finetune_assets.results.records import Calibrated, Submitted, Trained, report_of, require_same_model
from finetune_assets.results.region import Outputs, Region
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer
from finetune_assets_tests.evaluation.predictions import choices, numbers, predictions, texts
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.results.made import calibrated_as, trained_as

TASK = make_task(provider="https://one.example/v1")
REGION = Region(TASK, "mono", Outputs("nowhere"))


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="k")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    made = trained_as(TASK, "ft:a", inputs={"train": "ab"})
    write_json(UPath(tmp_path) / "mono.json", made.model_dump(mode="json"))
    assert Trained.read(UPath(tmp_path) / "mono.json") == made


OPTIONS = ["pass", "rework", "scrap"]
ANSWERED: dict[str, tuple[pd.DataFrame, Answer]] = {
    "binary": (predictions(), BinaryAnswer(kind="binary")),
    "choice": (choices(OPTIONS), ChoiceAnswer(kind="choice", options=OPTIONS)),
    "number": (numbers(), NumberAnswer(kind="number")),
    "text": (texts(), TextAnswer(kind="text")),
}


@pytest.mark.parametrize("n_groups", [None, 2])
@pytest.mark.parametrize("kind", ANSWERED)
def test_what_was_found_out_about_a_model_comes_back_as_it_was(tmp_path: Path, kind: str, n_groups: int | None) -> None:
    frame, answer = ANSWERED[kind]
    if n_groups:
        names = [f"panel {int(name[4:]) % n_groups}" for name in frame["example_id"]]
        frame = frame.assign(group=names, subgroup=names)
    region = Region(TASK.model_copy(update={"answer": answer}), "mono", Outputs(str(tmp_path)))
    report = compare(frame, region.task.answer)
    write_json(region.path("benchmark", ".json"), report.to_dict())
    assert report_of(region) == report
    made = calibrated_as(trained_as(region.task, "fine_tuned-model"), frame)
    write_json(region.path("calibrator", ".json"), made.model_dump(mode="json"))
    assert Calibrated.of(region) == made


def test_a_benchmark_of_an_earlier_version_is_refused_by_name(tmp_path: Path) -> None:
    region = Region(TASK, "mono", Outputs(str(tmp_path)))
    with pytest.raises(RecordError, match=r"benchmark.*mono.json is not there: materialise benchmark of this region"):
        report_of(region)
    write_json(region.path("benchmark", ".json"), {"outcome": "better"})
    with pytest.raises(RecordError, match=r"mono.json: kind: Field required.*materialise benchmark of this region"):
        report_of(region)


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
    old = calibrated_as(trained_as(TASK, "ft:old"), predictions())
    with pytest.raises(RecordError, match=r"calibrator is of ft:old .* the newest model is ft:new"):
        require_same_model(REGION, model, old)
