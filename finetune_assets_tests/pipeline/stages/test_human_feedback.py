"""From what reviewers decide to what is trained on and judged by, through a real database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.queues import take
from finetune_assets_tests.pipeline.reviewers import agree, judge, undo
from finetune_assets_tests.pipeline.tasks import Project, evaluations, failures, make_task, words, write_cells

FILTERED = ("sampled_examples", "human_feedback", "filtered_qa")


@pytest.fixture(autouse=True)
def reviewers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{tmp_path / 'reviews.sqlite'}")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A region of eighty cells, of which those scored 0.4 to 0.6 are doubtful, through the filter."""
    source = write_cells(tmp_path / "cells")
    table = Path(source["path"])
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for row in rows[38:42]:
        row["score"] = 0.45
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    project = Project(make_task(source=source | {"doubtful_between": [0.4, 0.6]}), tmp_path / "outputs")
    assert project.run(*FILTERED).success
    return project


def tables(project: Project) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clean and quarantined examples by id."""
    endings = (".parquet", ".quarantine.parquet")
    clean, quarantine = (pd.read_parquet(project.output("filtered_qa", ending)) for ending in endings)
    return clean.set_index("example_id"), quarantine.set_index("example_id")


def of_split(project: Project, split: str, answer: str, n: int) -> list[str]:
    clean, _ = tables(project)
    return (
        clean.reset_index()
        .loc[lambda row: (row["split"] == split) & (row["answer"] == answer), "example_id"]
        .tolist()[:n]
    )


def test_a_newcomer_is_told_where_reviewers_work_and_warned_of_nothing(project: Project) -> None:
    shown = project.metadata("human_feedback")
    assert shown["feedback"] == "no feedback yet; open `finetune-assets feedback`"
    assert "reviewers_decisions" not in project.metadata("filtered_qa")
    assert set(tables(project)[0]["label_from"]) == {"source"}
    assert evaluations(project.run("human_feedback"))["reviewers_agree"].passed


def test_clean_and_doubtful_examples_are_open_to_reviewers(project: Project) -> None:
    clean, quarantine = tables(project)
    assert set(quarantine["reason"]) == {"doubtful_label"}
    n = len(clean) + len(quarantine)
    assert f"{n} examples are open to reviewers" in project.metadata("filtered_qa")["offered"]
    with FeedbackDatabase() as db:
        item = next(taken.item for taken in take(db, "cells", "mono", "doubtful", "anna", n=9) if not taken.blind)
    held_out = clean.dropna(subset=["doubt"])
    assert item.example_id in {*quarantine.index, *held_out.index} and len(held_out) == 1
    assert set(held_out["split"]) <= {"calibration", "test"}
    assert (item.doubt, item.options) == ("the score 0.45 lies between 0.4 and 0.6", ("Yes", "No"))
    assert (item.label, item.label_value, item.question) == ("No", 0.45, "Is it bright?")
    assert item.image and Path(item.image).is_file()


def test_decisions_change_labels_take_doubtful_examples_in_and_rejected_ones_out(project: Project) -> None:
    before, quarantine = tables(project)
    wrong, bad, doubtful = (
        of_split(project, "train", "No", 2),
        of_split(project, "train", "Yes", 1),
        quarantine.index[:2],
    )
    judge(wrong, "Yes")
    judge(bad, None)
    agree(doubtful, "Yes", queue="doubtful")
    assert project.run(*FILTERED).success
    clean, quarantine = tables(project)
    assert set(clean.loc[wrong, "answer"]) == set(clean.loc[doubtful, "answer"]) == {"Yes"}
    assert clean.loc[wrong, "reviewed_by"].tolist() == ["anna"] * 2
    assert quarantine.loc[bad, "reason"].tolist() == ["rejected_by_reviewer"]
    assert len(clean) == len(before) + 2 - 1
    shown = project.metadata("human_feedback")
    assert shown["feedback"] == "5 examples are decided, 1 of them rejected"
    assert shown["changed_since_last_time"] == 5
    assert project.metadata("filtered_qa")["decided_by_reviewers"] == 5
    lines = project.metadata("filtered_qa")["reviewers_decisions"]
    assert "| split |" in lines and "rejected" in lines and "taken in" in lines


def test_no_example_changes_its_split(project: Project) -> None:
    before = pd.concat(tables(project))["split"]
    agree(before.index[:6], "Yes")
    agree(before.index[6:8], None)
    assert project.run(*FILTERED).success
    after = pd.concat(tables(project))["split"]
    assert before.sort_index().equals(after.sort_index())


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_accepting_what_a_model_says_changes_no_held_out_label_and_is_told(project: Project, split: str) -> None:
    before, _ = tables(project)
    wrong = of_split(project, split, "No", 3)
    for reviewer in ("anna", "ben", "cem"):
        judge(wrong, "Yes", reviewer=reviewer)
    assert project.run(*FILTERED).success
    after, _ = tables(project)
    assert after["answer"].equals(before["answer"]) and after["source_answer"].equals(before["answer"])
    shown = project.metadata("human_feedback")
    assert shown["held_out_examples_waiting_for_a_second_blind_judgement"] == 3


def test_a_held_out_label_that_two_found_wrong_blind_is_changed_and_the_source_s_is_kept(project: Project) -> None:
    wrong = of_split(project, "test", "No", 2)
    agree(wrong, "Yes")
    assert project.run(*FILTERED).success
    clean, _ = tables(project)
    seen = clean.loc[wrong, ["answer", "source_answer", "label_from", "reviewed_in", "reviewed_by"]].to_numpy().tolist()
    assert seen == [["Yes", "No", "review", "audit", "anna, ben"]] * 2
    others = clean.drop(index=wrong)
    assert others["source_answer"].equals(others["answer"]) and others["source_score"].equals(others["score"])


def test_an_undone_rejection_brings_the_example_back(project: Project) -> None:
    bad = of_split(project, "train", "Yes", 1)
    judge(bad, None)
    assert project.run(*FILTERED).success
    assert project.run(*FILTERED).success, "a rejection must survive a second run"
    assert bad[0] in tables(project)[1].index
    undo(1)
    assert project.run(*FILTERED).success
    assert tables(project)[0].loc[bad[0], "label_from"] == "source"
    assert project.metadata("human_feedback")["changed_since_last_time"] == 1


def test_the_data_version_changes_with_the_decisions_alone(project: Project) -> None:
    def version() -> str:
        assert project.run("human_feedback").success
        event = project.instance.get_latest_materialization_event(dg.AssetKey(["cells", "human_feedback"]))
        assert event is not None and event.asset_materialization is not None
        return (event.asset_materialization.tags or {})["dagster/data_version"]

    ids = of_split(project, "train", "No", 2)
    nothing = version()
    judge(ids[:1], "Yes")
    one = version()
    judge(ids[:1], "Yes", reviewer="ben")
    assert nothing != one == version()
    judge(ids[1:], "Yes")
    assert version() != one


def test_examples_in_conflict_are_a_warning_that_says_where_to_decide(project: Project) -> None:
    ids = of_split(project, "train", "No", 1)
    judge(ids, "Yes")
    judge(ids, "No", reviewer="ben")
    result = project.run("human_feedback")
    found = evaluations(result)["reviewers_agree"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "open conflicts: 1; decide them in the queue `conflicts`" in words(result, "reviewers_agree")


def test_reviewers_who_agree_no_more_than_by_chance_are_a_warning(project: Project) -> None:
    clean, _ = tables(project)
    teaching = clean.loc[clean["split"].isin(["train", "validation"])].index
    for place, example_id in enumerate(teaching[:40]):
        judge([example_id], "Yes" if place % 2 else "No")
        judge([example_id], "Yes" if place % 4 < 2 else "No", reviewer="ben")
    result = project.run("human_feedback")
    assert "Krippendorff's alpha is " in words(result, "reviewers_agree")
    assert "| anna and ben | 40 | 50% |" in project.metadata("human_feedback")["agreement"]


def test_without_its_database_reading_fails_and_offering_only_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", "postgresql://anna:secret@127.0.0.1:9/reviews")
    read = project.run("human_feedback")
    assert not read.success
    assert "127.0.0.1" in failures(read) and "secret" not in failures(read)
    assert project.run("filtered_qa").success
    said = project.metadata("filtered_qa")["offered"]
    assert said.startswith("NOT offered to reviewers: ") and "secret" not in said


def test_a_task_may_keep_what_the_experts_doubted_and_reviewers_decide_it_all_the_same(
    project: Project, tmp_path: Path
) -> None:
    doubtful = tables(project)[1].index[:1]
    agree(doubtful, "Yes", queue="doubtful")
    fields: dict[str, Any] = {"doubtful": "keep", "near_duplicates": False}
    keeping = Project(make_task(source=project.task.source.model_dump(), filtering=fields), tmp_path / "kept")
    assert keeping.run(*FILTERED).success
    clean, quarantine = tables(keeping)
    assert not len(quarantine)
    assert clean.loc[doubtful, ["answer", "label_from"]].to_numpy().tolist() == [["Yes", "review"]]
