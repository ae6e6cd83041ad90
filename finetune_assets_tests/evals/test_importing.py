"""What is taken over is a task that `check` finds no fault in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from finetune_assets.cli import app
from finetune_assets.dataset import sources
from finetune_assets.errors import SourceError, TaskError
from finetune_assets.evals.importing import Stated, import_evals
from finetune_assets.preflight import tasks
from finetune_assets.task import read_task
from finetune_assets_tests.dataset.pictures import picture, put

WORDS = {"Hardware": "screen", "Software": "program", "Other": "lunch"}


def tickets(folder: Path, n: int = 120) -> list[Path]:
    """A small export in three files; two of its rows cannot be taken over."""
    criteria = [
        {"type": "string_check", "name": "m", "input": "{{sample.output_text}}", "reference": "{{item.label}}",
         "operation": "eq"}
    ]  # fmt: skip
    template = [{"role": "system", "content": "Sort it."}, {"role": "user", "content": "Ticket: {{item.text}}"}]
    asked = {"type": "completions", "input_messages": {"type": "template", "template": template}}
    rows = [
        {"item": {"text": f"number {n}: my {WORDS[label]} is broken", "label": label}}
        for n, label in zip(range(n), 99 * list(WORDS), strict=False)
    ]
    lines = [*map(json.dumps, rows), '{"item": {"label": "Other"}}', "torn"]
    (folder / "eval.json").write_text(json.dumps({"object": "eval", "testing_criteria": criteria}))
    (folder / "run.json").write_text(json.dumps({"object": "eval.run", "id": "r", "data_source": asked}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return [folder / "eval.json", folder / "run.json", folder / "rows.jsonl"]


def test_an_export_becomes_a_task_that_passes_check(here: Path) -> None:
    made = import_evals(tickets(here), Stated(task="tickets"))
    assert (made.n, made.answer, [left.where for left in made.left]) == (
        120,
        "choice",
        ["rows.jsonl:121", "rows.jsonl:122"],
    )
    assert "bad" not in {finding.state for finding in tasks.check("tickets", [], lambda _: None)}
    task = read_task("tickets")
    [first, *others] = sources.read(task.source, "all", task.answer)
    assert (first.system, first.question, first.answer) == (
        "Sort it.",
        "Ticket: number 0: my screen is broken",
        "Hardware",
    )
    assert len(others) == 119
    line = json.loads((here / "tasks/tickets/cases.jsonl").read_text().partition("\n")[0])
    assert line["metadata"] == {"from": "rows.jsonl:1"}


def test_the_command_tells_what_is_taken_and_what_is_left(here: Path) -> None:
    done = CliRunner().invoke(app, ["import-evals", *map(str, tickets(here)), "--into", "tickets"])
    assert done.exit_code == 0, done.output
    assert "tasks/tickets/defs.yaml: 120 of 122 cases are taken over, as choice answers." in done.output
    assert "not taken over: rows.jsonl:121: has nothing under item.text" in done.output
    assert "`finetune-assets check tickets`" in done.output


def test_promptfoo_tests_with_images_become_a_task_that_reads_them_where_they_are(here: Path) -> None:
    parts = [{"type": "text", "text": "Is it bright?"}, {"type": "image_url", "image_url": {"url": "{{image}}"}}]
    tests = []
    for n in range(60):
        put(here / "foo" / "images" / f"{n}.png", picture(size=(16, 16 + n), shade=20 + 3 * n))
        image = f"file://images/{n}.png"
        tests.append({"vars": {"image": image}, "assert": [{"type": "equals", "value": "Yes" if n >= 30 else "No"}]})
    config = {"prompts": [json.dumps([{"role": "user", "content": parts}])], "tests": tests}
    (here / "foo" / "promptfooconfig.yaml").write_text(yaml.safe_dump(config))
    made = import_evals([here / "foo" / "promptfooconfig.yaml"], Stated(task="bright"))
    assert (made.n, made.answer, made.left) == (60, "binary", ())
    task = read_task("bright")
    assert task.base_model == "gpt-4o-2024-08-06"
    read = list(sources.read(task.source, "all", task.answer))
    assert [example.problem for example in read] == [None] * 60
    assert {Path(str(example.image)).resolve().parent for example in read} == {here / "foo" / "images"}


def test_an_answer_that_the_task_cannot_read_is_left_with_its_place(here: Path) -> None:
    rows = [{"input": f"How much is {n}?", "ideal": str(n)} for n in range(20)] + [{"input": "?", "ideal": "much"}]
    (here / "prices.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = import_evals([here / "prices.jsonl"], Stated(task="prices"))
    assert (made.n, made.answer) == (20, "number")
    assert [left.where for left in made.left] == ["prices.jsonl:21"] and "'much'" in made.left[0].reason


def test_a_conversation_of_several_turns_is_left(here: Path) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    rows = [{"input": f"{n}?", "ideal": "abc"[n % 3]} for n in range(12)] + [{"input": turns, "ideal": "a"}]
    (here / "turns.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = import_evals([here / "turns.jsonl"], Stated(task="turns"))
    assert made.n == 12
    assert "has 2 user messages; a task asks one question and reads one answer" in made.left[0].reason


def test_what_a_stranger_wrote_is_told_shortly_and_without_control_characters(here: Path) -> None:
    rows = [{"input": f"{n}?", "ideal": "abc"[n % 3]} for n in range(12)]
    rows += [{"\x1b[2Jgone": "x" * 9}, {"input": [{"role": "r" * 9000, "content": "?"}], "ideal": "a"}]
    (here / "strange.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = import_evals([here / "strange.jsonl"], Stated(task="strange"))
    assert [left.where for left in made.left] == ["strange.jsonl:13", "strange.jsonl:14"]
    assert "its keys are �[2Jgone" in made.left[0].reason
    assert all(len(left.reason) <= 400 and left.reason.isprintable() for left in made.left)


def test_nothing_is_written_over_and_nothing_is_made_of_nothing(here: Path) -> None:
    files = tickets(here)
    import_evals(files, Stated(task="tickets"))
    with pytest.raises(TaskError, match="is there already; take another name by --into"):
        import_evals(files, Stated(task="tickets"))
    (here / "none.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(SourceError, match=r"nothing of .*none\.jsonl can be taken over: none\.jsonl:1: is nothing of"):
        import_evals([here / "none.jsonl"], Stated(task="none"))
    assert not (here / "tasks" / "none").exists()


def test_an_option_of_the_other_tool_is_refused(here: Path) -> None:
    (here / "c.yaml").write_text("prompts: a\ntests: []")
    with pytest.raises(TaskError, match="--run and --answer are for Evals exports"):
        import_evals([here / "c.yaml"], Stated(task="c", run="r"))
    with pytest.raises(TaskError, match="--prompt is for promptfoo"):
        import_evals(tickets(here), Stated(task="c", prompt="1"))
    with pytest.raises(SourceError, match="a promptfoo file is imported alone"):
        import_evals([here / "c.yaml", *tickets(here)], Stated(task="c"))
