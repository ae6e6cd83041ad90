"""How far reviewers agree, as the page tells it."""

from __future__ import annotations

import uuid
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import expect

from finetune_assets.feedback.store.events import NewEvent, record
from finetune_assets_tests.feedback.app.feedback_process import TASK, FeedbackProcess, Reviewer

pytestmark = pytest.mark.xdist_group("feedback_app")


def judged(app: FeedbackProcess, region: str, answers: dict[str, str]) -> None:
    """Reviewers answer the region's examples in turn, a letter of their string each: y or n."""
    names = app.offer(region, max(map(len, answers.values())))
    for reviewer, letters in answers.items():
        for name, letter in zip(names, letters, strict=True):
            said = {"y": "Yes", "n": "No"}[letter]
            record(app.db, _correction(region, name, reviewer, said))


def _correction(region: str, name: str, reviewer: str, answer: str) -> NewEvent:
    key = str(uuid.uuid4())
    return NewEvent(
        key=key, task=TASK, region=region, example_id=name, reviewer=reviewer, kind="correct", answer=answer
    )


def test_kappa_and_alpha_stand_there_with_their_intervals(app: FeedbackProcess, ann: Reviewer) -> None:
    # Both say yes to 4, no to 4, and differ in 2 of 10: observed 0.8, by chance 0.5, so that kappa is 0.6.
    judged(app, "kappa", {"ann": "yyyynnnnyn", "ben": "yyyynnnnny"})
    page = ann.context.new_page()
    page.goto(f"/?place={TASK}/kappa&queue=uncertain")
    page.get_by_role("tab", name="Quality").click()
    here = page.locator("#quality")
    expect(here).to_contain_text("ann and ben\t10\t80 %\t0.60 [", use_inner_text=True)
    expect(here).to_contain_text("over 10 examples that at least two have judged")


def test_where_nobody_was_judged_twice_that_is_said(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("once", 1)
    page = ann.opens("once")
    page.get_by_role("tab", name="Quality").click()
    expect(page.locator("#quality")).to_contain_text("No example was judged by two reviewers yet.")


def test_what_was_said_is_exported_and_imported_once(app: FeedbackProcess, tmp_path: Path) -> None:
    judged(app, "moved", {"ann": "yn"})
    file = tmp_path / "events.jsonl"
    assert app.command("export", str(file), "--task", TASK).returncode == 0
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    moved = [line for line in lines if line["region"] == "moved"]
    assert [(line["reviewer"], line["answer"]) for line in moved] == [("ann", "Yes"), ("ann", "No")]
    with file.open("ab") as more:
        more.write(orjson.dumps(moved[0] | {"key": "new", "example_id": "unknown"}))
    again = app.command("import", str(file))
    assert again.returncode == 1
    assert f"0 new events, {len(lines):,} were here already, 1 lines rejected" in again.stdout
    assert "events.jsonl.rejected.jsonl" in again.stderr
