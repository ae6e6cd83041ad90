"""Events as a JSONL file, one a line, and back: a copy to keep, and a way to another database.

`undoes` names an event by its key, as numbers are each database's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.derived import AT_ONCE, in_parts, refresh
from finetune_assets.feedback.store.event_rows import stored_events
from finetune_assets.feedback.store.events import EventError, UndoError, add, item_of, same_event
from finetune_assets.feedback.store.judging import Kind, NewEvent
from finetune_assets.feedback.store.schema import events, items


class EventLine(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(min_length=1)
    task: str
    region: str
    example_id: str
    reviewer: str
    kind: Kind
    answer: str | None = None
    comment: str | None = None
    undoes: str | None = None
    """Key of an event."""
    shown: dict[str, Any] = {}
    seconds: float | None = None
    content: str
    at: float
    """Unix seconds."""


@dataclass(frozen=True)
class Imported:
    """What became of a file's lines."""

    n_new: int
    n_known: int
    """Events that the database had already."""
    n_rejected: int
    rejected: Path | None
    """Where the rejected lines are, each with its reason; None where there are none."""


def export_events(db: FeedbackDatabase, path: Path, task: str | None = None) -> int:
    """Write all events, or those of one task, in the order in which they were stored; return how many they are.

    Raises:
        OSError: the file cannot be written.
        FeedbackDatabaseError: the database cannot be reached.
    """
    undone = events.alias("undone")
    query = stored_events().add_columns(undone.c.key.label("key_of_undone"))
    query = query.join(undone, undone.c.number == events.c.undoes, isouter=True).order_by(events.c.number)
    if task is not None:
        query = query.where(items.c.task == task)
    n = 0
    with path.open("wb") as file, db.reading() as connection:
        for row in connection.execute(query.execution_options(yield_per=AT_ONCE)).mappings():
            line = {name: row[name] for name in EventLine.model_fields} | {"undoes": row["key_of_undone"]}
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            n += 1
    return n


def import_events(db: FeedbackDatabase, path: Path) -> Imported:
    """Add the events of a file, with their keys and times; those that are there already change nothing.

    Lines that are no event, or whose example was never offered here, go to `<file>.rejected.jsonl` with their number
    and the reason; the rest is taken, whoever has an example before him just now.

    Raises:
        OSError: the file cannot be read, or that of rejected lines not be written.
        FeedbackDatabaseError: the database cannot be reached; what was added so far is there.
    """
    counts, rejected = {True: 0, False: 0}, []
    with path.open("rb") as lines:
        for part in in_parts(enumerate(lines, 1), AT_ONCE):
            with db.writing() as connection:
                touched = set()
                for number, line in part:
                    try:
                        item, new = _import(connection, line)
                    except (EventError, ValidationError) as error:
                        rejected.append(
                            {"file": path.name, "line": number, "reason": _reason(error), "text": _text(line)}
                        )
                        continue
                    counts[new] += 1
                    touched.add(item)
                refresh(connection, sorted(touched))
    return Imported(counts[True], counts[False], len(rejected), _write_rejected(path, rejected))


def _import(connection: Connection, line: bytes) -> tuple[int, bool]:
    """Add the line's event unless it is there; the number of its item, and whether it is new."""
    given = EventLine.model_validate_json(line)
    event = NewEvent(**given.model_dump(exclude={"undoes", "content", "at"}), undoes=_number(connection, given))
    item = item_of(connection, event)
    new = same_event(connection, event) is None
    if new:
        add(connection, item, event, given.at, given.content)
    return item.number, new


def _number(connection: Connection, given: EventLine) -> int | None:
    if given.undoes is None:
        return None
    number = connection.scalar(select(events.c.number).where(events.c.key == given.undoes))
    if number is None:
        raise UndoError(f"undoes names event {given.undoes}, which is not there: its line must come before this one")
    return number


def _reason(error: EventError | ValidationError) -> str:
    if isinstance(error, EventError):
        return str(error)
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}, got {first['input']!r:.100}"


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n")


def _write_rejected(path: Path, rejected: list[Mapping[str, Any]]) -> Path | None:
    """Write the rejected lines beside the file; where there are none, none from an earlier time stay."""
    beside = path.with_name(f"{path.name}.rejected.jsonl")
    if not rejected:
        beside.unlink(missing_ok=True)
        return None
    beside.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rejected))
    return beside
