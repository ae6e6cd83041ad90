"""A real benchmark, written for inspect_ai and for promptfoo; inspect_ai reads its logs where it is installed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from finetune_assets.asking.predictions import Asked, predict
from finetune_assets.dataset import sources
from finetune_assets.dataset.table import write_table
from finetune_assets.errors import ExportError, RecordError
from finetune_assets.evals.exporting import export
from finetune_assets.evals.importing import Stated, import_evals
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.client import connect
from finetune_assets.provider.files import content_hash
from finetune_assets.results.files import write_json
from finetune_assets.results.records import Judged, ProviderThen, TaskThen
from finetune_assets.results.region import Outputs, Region
from finetune_assets.task import Task, read_task
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.provider.answering_provider import (
    AnsweringProvider,
    Response,
    answering_provider,
    completion,
    refusal,
    text_of,
)

N = 12
TRUTHS = ["Yes" if n % 3 else "No" for n in range(N)]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringProvider]:
    """The base model says Yes to everything, and refuses the first question; the fine-tuned one is right but once."""

    def answer(asked: dict[str, Any]) -> Response:
        number = int(text_of(asked).split()[2])
        if asked["model"] != "tuned":
            return completion("Yes", [("Yes", -0.1), ("No", -2.4)]) if number else refusal(400, "not this one")
        said = "No" if number == 1 else TRUTHS[number]
        return completion(said, [(said, -0.2), ("Yes" if said == "No" else "No", -1.7)])

    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with answering_provider(AnsweringProvider(answer)) as serving:
        yield serving


def benchmarked(task: Task, folder: Path, *, pictured: bool = True) -> Region:
    """A region whose benchmark is there, as the stages leave it."""
    region = Region(task, "mono", Outputs(str(folder / "outputs")))
    rows = [
        {"example_id": f"e{n}", "split": "test", "group": f"g{n}", "question": f"Is cell {n} bright?", "answer": truth,
         "image": str(put(folder / f"{n}.png", picture(shade=20 + n))) if pictured else None, "score": float("nan")}
        for n, truth in enumerate(TRUTHS)
    ]  # fmt: skip
    examples = pd.DataFrame(rows)
    clean = write_table(region.path("filtered_qa", ".parquet"), examples)
    models = {"base": task.base_model, "fine_tuned": "tuned"}
    with AnswerCache(folder / "answers.sqlite") as cache:
        asked = [predict(connect(task.provider), Asked(m, task), examples, r, cache) for r, m in models.items()]
    write_table(region.path("benchmark", ".parquet"), predictions := pd.concat(asked, ignore_index=True))
    judged = Judged(
        task=TaskThen.of(task), provider=ProviderThen.of(task, connect(task.provider)), model="tuned", job_id="j",
        inputs={"filtered_qa": content_hash(clean.path)},
    )  # fmt: skip
    report = compare(predictions, task.answer).to_dict() | {"judged": judged.model_dump(mode="json")}
    write_json(region.path("benchmark", ".json"), report)
    return region


@pytest.fixture
def region(provider: AnsweringProvider, tmp_path: Path) -> Region:
    return benchmarked(make_task(provider=provider.base_url), tmp_path)


def logs(region: Region, folder: Path) -> dict[str, dict[str, Any]]:
    """The written logs by role."""
    found = [json.loads(path.read_text()) for path in export(region, "inspect", folder)]
    return {log["eval"]["metadata"]["role"]: log for log in found}


def test_a_log_has_every_test_example_with_what_was_asked_answered_and_scored(region: Region, tmp_path: Path) -> None:
    made = logs(region, tmp_path / "logs")
    assert set(made) == {"base", "fine_tuned"}
    report = json.loads(region.path("benchmark", ".json").read_text())
    for role, log in made.items():
        [score] = log["results"]["scores"]
        assert score["metrics"]["accuracy"]["value"] == pytest.approx(report[role]["metrics"]["accuracy"])
        assert len(log["samples"]) == report["n"]
        asked = log["samples"][0]["input"][-1]["content"]
        assert asked[0]["text"] == "Is cell 0 bright? Answer Yes or No."
        assert asked[1]["image"].startswith("data:image/png;base64,")
    tuned, base = made["fine_tuned"]["samples"], made["base"]["samples"]
    scored = [one["scores"]["finetune_assets/answer"] for one in tuned]
    assert [one["value"] for one in scored] == ["C", "I", *"C" * (N - 2)]
    assert [one["answer"] for one in scored] == [TRUTHS[0], "No", *TRUTHS[2:]]
    assert scored[0]["metadata"]["p_truth"] == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert (base[0]["output"]["choices"], base[0]["scores"]["finetune_assets/answer"]["value"]) == ([], "I")
    assert "not this one" in base[0]["output"]["error"]


def test_inspect_ai_reads_the_logs_and_finds_the_same_figures(region: Region, tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log")
    made = logs(region, tmp_path / "logs")
    found = {one.name: log.read_eval_log(one) for one in log.list_eval_logs(str(tmp_path / "logs"))}
    assert len(found) == len(made)
    for read in found.values():
        own = made[read.eval.metadata["role"]]["results"]["scores"][0]["metrics"]
        log.recompute_metrics(read)
        [score] = read.results.scores
        assert {name: metric.value for name, metric in score.metrics.items()} == {
            name: pytest.approx(metric["value"]) for name, metric in own.items()
        }
        assert read.model_dump(exclude_none=True)["version"] == 2


def test_a_config_of_promptfoo_asks_the_same_questions_of_the_same_models(region: Region, tmp_path: Path) -> None:
    [path] = export(region, "promptfoo", tmp_path / "foo")
    config = yaml.safe_load(path.read_text())
    [prompt] = map(json.loads, config["prompts"])
    assert prompt[-1]["content"][0]["text"] == "{{question}} Answer Yes or No."
    assert prompt[-1]["content"][1]["image_url"]["url"] == "{{image}}"
    assert [provider["label"] for provider in config["providers"]] == ["base", "fine_tuned"]
    assert config["providers"][0]["config"]["apiBaseUrl"] == region.task.provider
    for test in config["tests"]:
        assert (tmp_path / "foo" / test["vars"]["image"].removeprefix("file://")).is_file()
        assert test["assert"][0]["value"] in ("Yes", "No")


def test_a_config_that_was_exported_is_imported_again(
    region: Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = export(region, "promptfoo", tmp_path / "foo")
    monkeypatch.chdir(tmp_path)
    made = import_evals([path], Stated(task="again"))
    assert (made.n, made.answer, made.left) == (N, "binary", ())
    task = read_task("again")
    read = list(sources.read(task.source, "all", task.answer))
    assert [example.question for example in read] == [f"Is cell {n} bright? Answer Yes or No." for n in range(N)]
    assert [example.answer for example in read] == TRUTHS


def test_a_folder_that_holds_something_and_a_benchmark_that_is_not_there_are_refused(
    region: Region, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(ExportError, match="is there already: name a new folder"):
        export(region, "inspect", tmp_path / "full")
    with pytest.raises(RecordError, match="does not say which model it is of"):
        export(Region(make_task(task="other"), "mono", region.outputs), "inspect", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_examples_that_have_changed_since_are_refused(region: Region, tmp_path: Path) -> None:
    write_table(region.path("filtered_qa", ".parquet"), pd.DataFrame({"example_id": ["e0"], "split": ["test"]}))
    with pytest.raises(RecordError, match="benchmark is of other examples than are there now"):
        export(region, "inspect", tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"prompt": {"user": "{question} {{answer}}"}}, r"holds `\{\{`"),
        (
            {"source": {"kind": "science_facts"}, "answer": {"kind": "text"}},
            "an answer of the kind text is not right or wrong by one word",
        ),
    ],
)
def test_what_promptfoo_would_take_otherwise_is_refused(
    provider: AnsweringProvider, tmp_path: Path, change: dict[str, Any], refusal: str
) -> None:
    made = benchmarked(make_task(provider=provider.base_url, **change), tmp_path, pictured=False)
    with pytest.raises(ExportError, match=refusal):
        export(made, "promptfoo", tmp_path / "foo")
