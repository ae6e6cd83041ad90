"""A task brought over from a model of a real server, which labels pictures and is compared with its successor."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset import sources
from finetune_assets.errors import TaskError
from finetune_assets.pipeline.stage import PREPARE
from finetune_assets.rescue import SURE, Teacher, compared, label, least_sure, require_room, successor
from finetune_assets.results.region import Outputs
from finetune_assets.task import Task
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task, write_cells

# In the process that runs the pipeline tests, beside the server that it has started.
pytestmark = [pytest.mark.xdist_group("finished_region"), pytest.mark.usefixtures("local_key")]
DATA_STAGES = PREPARE[: PREPARE.index("training_jsonl")]


@pytest.fixture
def teacher(finished: Finished, tmp_path: Path) -> Teacher:
    """The finished region's model, as a task of other labelled pictures asks it."""
    source = write_cells(tmp_path / "labelled", n=60) | {"question": "Is this cell bright?"}
    old = make_task(**finished.project.task.model_dump(exclude_unset=True) | {"task": "old", "source": source})
    shutil.copytree(str(finished.project.root), tmp_path / "outputs")
    project = Project(old, tmp_path / "outputs")
    prepared = project.run(*DATA_STAGES)
    assert prepared.success, failures(prepared)
    return Teacher(old, str(finished.job.fine_tuned_model), Outputs(str(tmp_path / "outputs"), str(tmp_path / "kept")))


def said(_: str) -> None:
    """Nobody listens."""


def test_pictures_that_nobody_has_labelled_become_a_task_that_can_be_trained(teacher: Teacher, tmp_path: Path) -> None:
    write_cells(tmp_path / "inputs", n=30)
    (tmp_path / "inputs" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    folder = tmp_path / "tasks" / "new"
    made = label(teacher, "mono", tmp_path / "inputs", folder, 0.2, said)
    rows = [json.loads(line) for line in made.table.read_text().splitlines()]
    assert (made.n, len(rows), len(made.refused)) == (30, 30, 1) and "torn.png" in made.refused[0]
    assert {row["answer"] for row in rows} <= {"Yes", "No"}
    assert sum(row["doubt"] is not None for row in rows) == made.n_for_people <= 6
    assert all(row["probability"] < SURE and teacher.model in row["doubt"] for row in rows if row["doubt"])

    attributes = successor(teacher, "new", folder, "local", tmp_path / "inputs")
    assert attributes["sampling"]["train"] == 0.7, "the old task's test split judges both, so most are learned from"
    task = Task.model_validate(attributes, context={"folder": folder})
    examples = list(sources.read(task.source, "mono", task.answer))
    assert (task.task, task.provider, task.regions) == ("new", "local", ["mono"])
    assert [example.problem for example in examples] == [None] * 30
    assert {example.answer for example in examples} == {row["answer"] for row in rows}
    assert {Path(str(example.image)).name for example in examples} == {f"mono-{n}.png" for n in range(30)}
    assert sum(example.doubt is not None for example in examples) == made.n_for_people


def test_a_task_that_would_not_read_the_labels_is_refused_before_anything_is_asked(
    teacher: Teacher, tmp_path: Path
) -> None:
    write_cells(tmp_path / "inputs", n=2)
    folder, other = tmp_path / "new", tmp_path / "other"
    other.mkdir()
    label(teacher, "mono", tmp_path / "inputs", folder, 0, said)
    made = Task.model_validate(successor(teacher, "new", folder, "local", tmp_path / "inputs"))
    require_room(made, "mono", tmp_path / "inputs", folder)
    above = made.source.model_copy(update={"image_root": ".."})
    require_room(made.model_copy(update={"source": above}), "mono", other, folder)
    with pytest.raises(TaskError, match=r"without the region poly: add it to `regions`"):
        require_room(made, "poly", tmp_path / "inputs", folder)
    with pytest.raises(TaskError, match=r"whose images lie in \.\./inputs, and .*other is elsewhere"):
        require_room(made, "mono", other, folder)
    with pytest.raises(TaskError, match="was not made by a rescue"):
        require_room(teacher.task, "mono", tmp_path / "inputs", folder)


def test_what_was_asked_once_is_not_asked_again(teacher: Teacher, tmp_path: Path) -> None:
    write_cells(tmp_path / "inputs", n=10)
    first = label(teacher, "mono", tmp_path / "inputs", tmp_path / "new", 0, said)
    heard: list[str] = []
    again = label(teacher, "mono", tmp_path / "inputs", tmp_path / "new", 0, heard.append)
    assert again == first
    assert any("10 of them in an earlier run" in words for words in heard)


def test_questions_come_from_a_file_as_well(teacher: Teacher, tmp_path: Path) -> None:
    write_cells(tmp_path / "inputs", n=2)
    lines = ['{"image": "inputs/mono-1.png"}', '{"image": "inputs/mono-0.png", "text": "Is it dark?"}', '{"id": 3}']
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    made = label(teacher, "mono", tmp_path / "asked.jsonl", tmp_path / "new", 0, said)
    rows = [json.loads(line) for line in made.table.read_text().splitlines()]
    assert [row["question"] for row in rows] == ["Is this cell bright?", "Is it dark?"]
    assert len(made.refused) == 1 and "line 3" in made.refused[0]


def test_inputs_of_which_none_can_be_asked_about_are_refused(teacher: Teacher, tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text('{"image": "missing.png"}\n')
    with pytest.raises(TaskError, match=r"nothing of .*asked\.jsonl can be asked about: .*missing\.png"):
        label(teacher, "mono", tmp_path / "asked.jsonl", tmp_path / "new", 0, said)
    assert not (tmp_path / "new").exists()


def test_old_and_new_answer_the_labelled_test_split_pair_by_pair(teacher: Teacher, finished: Finished) -> None:
    near = compared(teacher, finished.project.task, "mono", said)
    assert near is not None
    assert near.report.base.model == near.report.fine_tuned.model == teacher.model
    assert (near.agreement.estimate, near.report.decisive.difference.estimate) == (1, 0)
    page = near.page.read_text()
    assert "Both answer alike in 100.0%" in page and str(near.report.n) in page


def test_what_the_new_model_learned_from_is_no_test_of_it(teacher: Teacher, finished: Finished) -> None:
    own = Teacher(finished.project.task, teacher.model, teacher.outputs)
    with pytest.raises(TaskError, match="cells/mono learned from all [34][0-9] test examples"):
        compared(own, finished.project.task, "mono", said)


def test_nothing_is_compared_before_there_are_labels_and_a_new_model(teacher: Teacher, finished: Finished) -> None:
    unlabelled = Teacher(make_task(task="elsewhere"), teacher.model, teacher.outputs)
    assert compared(unlabelled, finished.project.task, "mono", said) is None
    with pytest.raises(TaskError, match="untrained/mono has no champion yet"):
        compared(teacher, make_task(task="untrained"), "mono", said)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=40), st.floats(0, 1))
def test_people_see_the_least_sure_and_no_more_than_their_share(chances: list[float], people: float) -> None:
    chosen = least_sure(chances, people)
    assert len(chosen) <= people * len(chances)
    assert all(chances[number] < SURE for number in chosen)
    left = [p for number, p in enumerate(chances) if number not in chosen and p < SURE]
    assert not left or not chosen or max(chances[number] for number in chosen) <= min(left)
