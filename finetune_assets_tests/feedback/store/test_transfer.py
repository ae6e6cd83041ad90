"""Events leave a database and enter another one as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import decisions
from finetune_assets.feedback.store.events import Event, history
from finetune_assets.feedback.store.queues import take
from finetune_assets.feedback.store.transfer import Imported, export_events, import_events
from finetune_assets_tests.feedback.store.builders import NOON, REGION, TASK, does, offer_names


def worked_on(db: FeedbackDatabase) -> None:
    offer_names(db, "a b")
    offer_names(db, "c", task="other")
    undone = does(db, "ann", "accept", "a", "Yes", NOON, shown={"queue": "audit", "probability": 0.5}, seconds=1.5)
    does(db, "ann", "undo", "a", now=NOON + 1, undoes=undone.number)
    does(db, "ann", "correct", "a", "No", NOON + 2, comment="Riß \U0001f50d")
    does(db, "bob", "reject", "b", now=NOON + 3)
    does(db, "bob", "skip", "c", now=NOON + 4, task="other")


def without_numbers(events: list[Event]) -> list[Event]:
    numbers = {event.number: place for place, event in enumerate(events)}
    return [replace(e, number=numbers[e.number], undoes=e.undoes and numbers[e.undoes]) for e in events]


def test_events_come_back_as_they_were_and_only_once(
    db: FeedbackDatabase, new_address: Callable[[], str], tmp_path: Path
) -> None:
    worked_on(db)
    assert export_events(db, tmp_path / "all.jsonl") == 5
    with FeedbackDatabase(new_address()) as other:
        offer_names(other, "a b x")
        does(other, "cy", "skip", "x")
        offer_names(other, "c", task="other")
        assert import_events(other, tmp_path / "all.jsonl") == Imported(5, 0, 0, None)
        assert import_events(other, tmp_path / "all.jsonl") == Imported(0, 5, 0, None)
        for task, name in ((TASK, "a"), (TASK, "b"), ("other", "c")):
            assert without_numbers(history(other, task, REGION, name)) == without_numbers(
                history(db, task, REGION, name)
            )
        known = [(d.example_id, d.answer, d.reviewers, d.decided_at) for d in decisions(db, TASK, REGION)]
        assert [(d.example_id, d.answer, d.reviewers, d.decided_at) for d in decisions(other, TASK, REGION)] == known


def test_one_task_is_exported_alone(db: FeedbackDatabase, tmp_path: Path) -> None:
    worked_on(db)
    assert export_events(db, tmp_path / "one.jsonl", "other") == 1
    (line,) = (tmp_path / "one.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["example_id"] == "c"


GOOD = {"key": "k", "task": TASK, "region": REGION, "example_id": "a", "reviewer": "ann", "kind": "skip"} | {
    "content": "c-a",
    "at": NOON,
}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "line: Invalid JSON"),
        (b"", "line: Invalid JSON"),
        (orjson.dumps({**GOOD, "example_id": "z"}), "cells/mono/z was never offered"),
        (orjson.dumps({**GOOD, "kind": "like"}), "kind: Input should be 'accept'"),
        (orjson.dumps({**GOOD, "at": "noon"}), "at: Input should be a valid number, got 'noon'"),
        (orjson.dumps({**GOOD, "liked": True}), "liked: Extra inputs are not permitted"),
        (orjson.dumps({k: v for k, v in GOOD.items() if k != "key"}), "key: Field required"),
        (orjson.dumps({**GOOD, "kind": "undo", "undoes": "never"}), "undoes names event never"),
        (orjson.dumps({**GOOD, "kind": "correct", "answer": "Maybe"}), "one of Yes, No, got 'Maybe'"),
    ],
)
def test_a_bad_line_is_set_aside_with_its_reason_and_the_rest_is_taken(
    db: FeedbackDatabase, tmp_path: Path, line: bytes, reason: str
) -> None:
    offer_names(db, "a b")
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([orjson.dumps({**GOOD, "key": "1"}), line, orjson.dumps({**GOOD, "key": "3"})]))
    beside = tmp_path / "events.jsonl.rejected.jsonl"
    assert import_events(db, path) == Imported(2, 0, 1, beside)
    (row,) = map(orjson.loads, beside.read_bytes().splitlines())
    assert (row["file"], row["line"], row["text"]) == ("events.jsonl", 2, line.decode())
    assert reason in row["reason"]
    assert [event.key for event in history(db, TASK, REGION, "a")] == ["1", "3"]


def test_what_was_rejected_before_and_is_fine_now_leaves_no_file(db: FeedbackDatabase, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(orjson.dumps(GOOD))
    offer_names(db, "b")
    assert import_events(db, path).n_rejected == 1
    offer_names(db, "a")
    assert import_events(db, path) == Imported(1, 0, 0, None)
    assert list(tmp_path.glob("*.rejected.jsonl")) == []


def test_an_event_of_before_is_taken_though_another_reviewer_has_the_example_now(
    db: FeedbackDatabase, tmp_path: Path
) -> None:
    offer_names(db, "a")
    take(db, TASK, REGION, "audit", "bob")
    (tmp_path / "e.jsonl").write_bytes(orjson.dumps(GOOD))
    assert import_events(db, tmp_path / "e.jsonl").n_new == 1
