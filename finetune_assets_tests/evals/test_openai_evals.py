"""Exports are written as the SDK's types have them, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types import EvalRetrieveResponse
from openai.types.evals import RunRetrieveResponse
from openai.types.evals.runs import OutputItemListResponse
from pydantic import TypeAdapter

from finetune_assets.errors import SourceError
from finetune_assets.evals.openai_evals import read

MATCH = {"type": "string_check", "name": "Match", "input": "{{ sample.output_text }}", "reference": "{{item.label}}"}
EQUAL = MATCH | {"operation": "eq"}
USAGE = {"cached_tokens": 0, "completion_tokens": 1, "prompt_tokens": 1, "total_tokens": 2, "invocation_count": 1}


def eval_of(*graders: dict[str, Any], labels: list[str] | None = None) -> dict[str, Any]:
    label = {"type": "string"} | ({"enum": labels} if labels else {})
    schema = {"properties": {"item": {"properties": {"text": {"type": "string"}, "label": label}}}}
    found = {
        "object": "eval",
        "id": "eval_1",
        "created_at": 1,
        "name": "Tickets",
        "metadata": {},
        "data_source_config": {"type": "custom", "schema": schema},
        "testing_criteria": list(graders or [EQUAL]),
    }
    TypeAdapter(EvalRetrieveResponse).validate_python(found)
    return found


def run_of(*template: dict[str, Any], id_: str = "run_1", rows: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    source = {"type": "file_id", "id": "file-1"} if rows is None else {"type": "file_content", "content": rows}
    asked = {"type": "template", "template": list(template or [{"role": "user", "content": "{{item.text}}"}])}
    counts = {"errored": 0, "failed": 0, "passed": 1, "total": 1}
    found = {
        "object": "eval.run",
        "id": id_,
        "eval_id": "eval_1",
        "created_at": 1,
        "name": "r",
        "metadata": {},
        "model": "gpt-4.1",
        "status": "completed",
        "report_url": "https://platform.openai.com",
        "per_model_usage": [USAGE | {"model_name": "gpt-4.1", "run_model_name": "gpt-4.1"}],
        "per_testing_criteria_results": [],
        "result_counts": counts,
        "error": {"code": "", "message": ""},
        "data_source": {"type": "completions", "model": "gpt-4.1", "input_messages": asked, "source": source},
    }
    TypeAdapter(RunRetrieveResponse).validate_python(found)
    return found


def output_item(n: int, item: dict[str, Any], asked: str = "as it was", run: str = "run_1") -> dict[str, Any]:
    sample = {
        "error": {"code": "", "message": ""},
        "finish_reason": "stop",
        "input": [{"role": "user", "content": asked}],
        "max_completion_tokens": 5,
        "model": "gpt-4.1",
        "output": [{"role": "assistant", "content": "no matter"}],
        "seed": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": USAGE,
    }
    found = {
        "object": "eval.run.output_item",
        "id": f"outputitem_{n}",
        "created_at": 1,
        "datasource_item": item,
        "datasource_item_id": n,
        "eval_id": "eval_1",
        "results": [{"name": "Match", "passed": True, "score": 1.0}],
        "run_id": run,
        "sample": sample,
        "status": "pass",
    }
    TypeAdapter(OutputItemListResponse).validate_python(found)
    return found


def rows(*labels: str) -> list[dict[str, Any]]:
    return [{"item": {"text": f"text {n}", "label": label}} for n, label in enumerate(labels)]


def written(folder: Path, **files: Any) -> list[Path]:
    paths = []
    for name, value in files.items():
        path = folder / (f"{name}.jsonl" if isinstance(value, list) else f"{name}.json")
        texts = map(json.dumps, value) if isinstance(value, list) else [json.dumps(value)]
        path.write_text("\n".join(texts))
        paths.append(path)
    return paths


def test_the_graders_reference_is_the_answer_and_the_runs_template_the_question(tmp_path: Path) -> None:
    template = [
        {"role": "developer", "content": "Sort it."},
        {"role": "user", "content": [{"type": "input_text", "text": "Ticket: {{item.text}}"}]},
    ]
    found = read(written(tmp_path, e=eval_of(), r=run_of(*template), d=rows("Hardware", "Other")), None, None, None)
    assert [case.messages for case in found.taken] == [
        [{"role": "system", "content": "Sort it."}, {"role": "user", "content": f"Ticket: text {n}"}] for n in (0, 1)
    ]
    assert [(case.where, case.answer) for case in found.taken] == [("d.jsonl:1", "Hardware"), ("d.jsonl:2", "Other")]
    assert (found.left, found.remarks) == ([], [])


def test_rows_that_a_run_holds_itself_and_a_list_of_pages_are_found(tmp_path: Path) -> None:
    kept = {"eval": eval_of(), "runs": {"object": "list", "data": [run_of(rows=rows("a", "b"))]}}
    found = read(written(tmp_path, all=kept), None, None, None)
    assert [(case.where, case.answer) for case in found.taken] == [
        ("run_1, content[0]", "a"),
        ("run_1, content[1]", "b"),
    ]


def test_output_items_say_what_was_asked_and_are_taken_once(tmp_path: Path) -> None:
    items = [output_item(n, {"label": "a"}, f"asked {n}", run) for run in ("run_1", "run_2") for n in (0, 1)]
    found = read(written(tmp_path, e=eval_of(), o={"object": "list", "data": items}), None, None, None)
    assert [case.messages for case in found.taken] == [[{"role": "user", "content": f"asked {n}"}] for n in (0, 1)]
    assert found.taken[0].where == "o.json .data[0]"
    assert found.remarks == ["items that several runs asked are taken once"]


def test_images_are_shown_by_https_and_data_urls_alone(tmp_path: Path) -> None:
    shown = {
        "role": "user",
        "content": [{"type": "input_image", "image_url": "{{item.image}}"}, {"type": "input_text", "text": "?"}],
    }
    urls = ["https://a.org/b.png", "data:image/png;base64,AAAA", "/etc/passwd", "file:///etc/passwd", "http://a.org/b"]
    data = [{"item": {"image": url, "label": "a"}} for url in urls]
    found = read(written(tmp_path, e=eval_of(), r=run_of(shown), d=data), None, None, None)
    assert [case.messages[0]["content"][0]["image_url"]["url"] for case in found.taken] == urls[:2]
    assert [left.where for left in found.left] == ["d.jsonl:3", "d.jsonl:4", "d.jsonl:5"]
    assert "neither an https URL nor a data URL" in found.left[0].reason


def test_samples_of_the_repository_have_one_right_answer(tmp_path: Path) -> None:
    asked = [{"role": "system", "content": "Be {{brief}}."}, {"role": "user", "content": "2+2?"}]
    data = [{"input": asked, "ideal": "4"}, {"input": "3+3?", "ideal": ["6"]}, {"input": "?", "ideal": ["a", "b"]}]
    found = read(written(tmp_path, samples=data), None, None, None)
    assert [(case.messages, case.answer) for case in found.taken] == [
        (asked, "4"),
        ([{"role": "user", "content": "3+3?"}], "6"),
    ]
    assert [(left.where, left.reason) for left in found.left] == [
        ("samples.jsonl:3", "has 2 right answers, and a task has one")
    ]


def test_each_line_that_is_nothing_of_an_export_is_named(tmp_path: Path) -> None:
    [path] = written(tmp_path, d=rows("a"))
    path.write_text(path.read_text() + '\n{"question": "x"}\nno json\n[1]\n\n{"item": {"label": "b"}}')
    found = read([path, *written(tmp_path, e=eval_of(), r=run_of())], None, None, None)
    assert [left.where for left in found.left] == [f"d.jsonl:{n}" for n in (2, 3, 4, 6)]
    assert found.left[0].reason.startswith("is nothing of an Evals export")
    assert found.left[-1].reason == "has nothing under item.text"


def test_what_a_grader_does_otherwise_is_said(tmp_path: Path) -> None:
    graders = [
        MATCH | {"operation": "ilike"},
        {"type": "python", "name": "code", "source": "import os"},
        {"type": "label_model", "name": "nice", "model": "o3", "labels": ["a"], "passing_labels": ["a"],
         "input": [{"role": "user", "content": "?"}]},
    ]  # fmt: skip
    found = read(written(tmp_path, e=eval_of(*graders), r=run_of(), d=rows("a")), None, None, None)
    assert found.remarks == [
        "the grader 'Match' (string_check) is passed by an answer that holds, in any case, the text; a task reads one "
        "answer",
        "the grader 'code' (python) is not taken over: code judges the answer, and none is run",
        "the grader 'nice' (label_model) is not taken over: a model judges the answer, and a task needs a label",
    ]


def test_an_answer_that_the_schema_does_not_allow_is_left(tmp_path: Path) -> None:
    found = read(written(tmp_path, e=eval_of(labels=["a", "b", "c"]), r=run_of(), d=rows("a", "z")), None, None, None)
    assert found.labels == ["a", "b", "c"]
    assert [left.reason for left in found.left] == ["its answer 'z' is none of those that the schema allows: a, b, c"]


@pytest.mark.parametrize(
    ("files", "said", "refusal"),
    [
        ({"d": rows("a"), "r": run_of()}, {}, r"no grader in the files says what is right: say it by --answer"),
        ({"d": rows("a"), "e": eval_of()}, {}, "do not say what is asked about an item: add the run's JSON"),
        (
            {"d": rows("a"), "e": eval_of(), "r": run_of(), "s": run_of({"role": "user", "content": "!"}, id_="run_2")},
            {},
            "the runs run_1, run_2 ask in different words, and a task has one prompt: name one by --run",
        ),
        ({"d": rows("a"), "e": eval_of(), "r": run_of()}, {"run": "run_9"}, "there is no run 'run_9'"),
        (
            {"d": rows("a"), "r": run_of(), "e": eval_of(EQUAL, EQUAL | {"reference": "{{item.text}}"})},
            {},
            r"graders compare with \{\{item.label\}\}, \{\{item.text\}\}: say it by --answer",
        ),
        (
            {"d": rows("a"), "r": run_of(), "e": eval_of(MATCH | {"operation": "ne"})},
            {},
            "its operation 'ne' does not say what an answer is",
        ),
    ],
)
def test_what_the_files_do_not_say_has_to_be_said(
    tmp_path: Path, files: dict[str, Any], said: dict[str, str], refusal: str
) -> None:
    with pytest.raises(SourceError, match=refusal):
        read(written(tmp_path, **files), None, None, said.get("run"))


def test_what_is_said_goes_before_the_files(tmp_path: Path) -> None:
    found = read(written(tmp_path, d=rows("a", "b")), "Which? {{item.text}}", "It is {{item.label}}", None)
    assert [case.answer for case in found.taken] == ["It is a", "It is b"]
    assert found.taken[1].messages == [{"role": "user", "content": "Which? text 1"}]


def test_of_several_runs_one_is_named(tmp_path: Path) -> None:
    other = run_of({"role": "user", "content": "Other: {{item.text}}"}, id_="run_2")
    found = read(written(tmp_path, d=rows("a"), e=eval_of(), r=run_of(), s=other), None, None, "run_2")
    assert found.taken[0].messages == [{"role": "user", "content": "Other: text 0"}]
