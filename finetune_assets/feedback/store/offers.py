"""What the pipeline lays before reviewers: a region's examples, and what the model says about them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, bindparam, false, func, insert, null, select, update

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.derived import AT_ONCE, in_parts, refresh
from finetune_assets.feedback.store.judging import IN_USE, meaning
from finetune_assets.feedback.store.schema import items
from finetune_assets.task import HELD_OUT, SPLITS

_LAST_PLACE = 1_000_000
_OF_MODEL = ("model", "model_answer", "probability", "base_answer", "champion_answer", "certainty", "disagreement")


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """An example as a reviewer sees it."""

    task: str
    region: str
    example_id: str
    content: str
    """Hash in hex of question, system text and image: a decision holds for this content only."""
    split: str
    question: str
    image: str | None = None
    """Path or fsspec URL."""
    original: str | None = None
    """Of an image made from one of more than 8 bits: path or URL of that."""
    pictures: str | None = None
    """All images where there are several, of which `image` is the one in question (`dataset.shown`)."""
    label: str | None = None
    """The current label in the task's words."""
    label_value: float | None = None
    kind: Literal["binary", "choice", "score", "number", "text", "call"]
    options: tuple[str, ...] = ()
    """The words that may be answered (binary and choice)."""
    doubt: str | None = None
    """Why it waits in quarantine; None where it does not."""


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """What the fine-tuned model says about an example, and what its base said."""

    example_id: str
    model: str
    answer: str | None = None
    """In the task's words; None where it could not be read."""
    probability: float | None = None
    """Calibrated, that the answer is right."""
    base_answer: str | None = None
    champion_answer: str | None = None
    place: int | None = None
    """From 0, where it is to be reviewed before all that are merely uncertain; stored as its certainty alone."""


@dataclass(frozen=True)
class OfferedRegion:
    """A region that reviewers can choose."""

    task: str
    region: str
    n_items: int


_OFFERED = (*(field.name for field in fields(ReviewItem)), "offer", "offered", "shuffle", *_OF_MODEL)


def offer(db: FeedbackDatabase, task: str, region: str, offered: Iterable[ReviewItem]) -> int:
    """Make exactly these the region's items, and return how many they are.

    Those that were offered before and are no longer are withdrawn when all new ones are in; their events stay. Items
    whose content has changed wait for new judgements, and for a model's answer. Reviewers are let in between parts.

    Raises:
        ValueError: an item is of another task or region.
        FeedbackDatabaseError: the database cannot be reached.
    """
    this, n = uuid.uuid4().hex, 0
    for part in in_parts(offered, AT_ONCE):
        for item in part:
            if (item.task, item.region) != (task, region):
                raise ValueError(f"item {item.example_id} is of {item.task}/{item.region}, not of {task}/{region}")
        with db.writing() as connection:
            _store(connection, this, part)
        n += len(part)
    withdrawn = _in_region(task, region, items.c.offer != this, items.c.split != IN_USE)
    with db.writing() as connection:
        connection.execute(update(items).where(withdrawn).values(offered=false()))
    return n


def offer_answers(
    db: FeedbackDatabase, task: str, region: str, answers: Iterable[ModelAnswer], splits: Sequence[str] = SPLITS
) -> int:
    """Make exactly these what is said about the region's items of some splits; return how many items they are about.

    Answers about examples that were never offered, or are of other splits, are passed over.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    nothing = dict.fromkeys(_OF_MODEL, null())
    asked, n = _in_region(task, region, items.c.model.is_not(None), items.c.split.in_(splits)), 0
    with db.writing() as connection:
        connection.execute(update(items).where(asked).values(nothing))
        for part in in_parts(answers, AT_ONCE):
            said = {answer.example_id: answer for answer in part}
            about = (items.c.example_id.in_(said), items.c.split.in_(splits))
            rows = connection.execute(select(items).where(_in_region(task, region, *about)))
            changed = [{**row._mapping, **_said(said[row.example_id])} for row in rows]
            _change(connection, [row | _ranks(row) for row in changed], _OF_MODEL)
            n += len(changed)
    return n


def offered_regions(db: FeedbackDatabase) -> list[OfferedRegion]:
    """List the regions that have items, by task and region."""
    place = (items.c.task, items.c.region)
    query = select(*place, func.count()).where(items.c.offered).group_by(*place).order_by(*place)
    with db.reading() as connection:
        return [OfferedRegion(*row) for row in connection.execute(query)]


def shuffled(example_id: str) -> str:
    """Return what puts an item into an order that has nothing to do with what it is."""
    return hashlib.sha256(example_id.encode()).hexdigest()[:16]


def review_item(row: RowMapping) -> ReviewItem:
    """Make an item of its row."""
    values: dict[str, Any] = {field.name: row[field.name] for field in fields(ReviewItem)}
    return ReviewItem(**{**values, "options": tuple(row["options"])})


def model_answer(row: RowMapping) -> ModelAnswer | None:
    """Make the model's answer of an item's row; None where it has said nothing."""
    if row["model"] is None:
        return None
    columns = {"answer": "model_answer"}
    stored = (field.name for field in fields(ModelAnswer) if field.name != "place")
    return ModelAnswer(**{name: row[columns.get(name, name)] for name in stored})


def _in_region(task: str, region: str, *further: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(items.c.task == task, items.c.region == region, *further)


def _store(connection: Connection, this: str, part: Sequence[ReviewItem]) -> None:
    names = [item.example_id for item in part]
    stored = select(items).where(_in_region(part[0].task, part[0].region, items.c.example_id.in_(names)))
    known = {row.example_id: row._mapping for row in connection.execute(stored)}
    new, changed, other = [], [], []
    for item in part:
        before = known.get(item.example_id)
        place = {"offer": this, "offered": True, "shuffle": shuffled(item.example_id)}
        held_out = item.split in HELD_OUT
        row = {**dict.fromkeys(_OF_MODEL), **(before or {}), **asdict(item), **place}
        if before is None:
            new.append(row | _ranks(row))
            continue
        same = before["content"] == item.content
        changed.append(row | (_ranks(row) if same else dict.fromkeys(_OF_MODEL)))
        if not same or (before["split"] in HELD_OUT) is not held_out:
            other.append(before["number"])
    if new:
        connection.execute(insert(items), new)
    _change(connection, changed, _OFFERED)
    refresh(connection, other)


def _change(connection: Connection, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    if rows:
        # A bound name must differ from those of the columns.
        statement = update(items).where(items.c.number == bindparam("its_number"))
        values = {name: bindparam(f"new_{name}") for name in columns}
        bound = [{"its_number": row["number"]} | {f"new_{name}": row[name] for name in columns} for row in rows]
        connection.execute(statement.values(values), bound)


def _said(answer: ModelAnswer) -> dict[str, Any]:
    return {
        "model": answer.model,
        "model_answer": answer.answer,
        "probability": answer.probability,
        "base_answer": answer.base_answer,
        "champion_answer": answer.champion_answer,
        "place": answer.place,
    }


def _ranks(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Where the item stands in the queues that the model's answer puts in order."""
    probability, binary = row["probability"], row["kind"] == "binary"
    certainty = None if probability is None else abs(probability - 0.5) if binary else probability
    if row.get("place") is not None:
        certainty = row["place"] - _LAST_PLACE
    return {"certainty": certainty, "disagreement": _disagreement(row)}


def _disagreement(row: Mapping[str, Any]) -> float | None:
    """How strongly the candidate that denies the label most does: all of them are asked alike."""
    found = [_denial(row, row[name]) for name in ("model_answer", "base_answer", "champion_answer")]
    return max((strength for strength in found if strength is not None), default=None)


def _denial(row: Mapping[str, Any], answer: str | None) -> float | None:
    """For words, how certain the model is of its own; for numbers, the difference as a share of the larger one."""
    kind, label = row["kind"], row["label"]
    if answer is None or label is None:
        return None
    said, labelled = meaning(answer, kind), meaning(label, kind)
    if said == labelled:
        return None
    if isinstance(said, float) and isinstance(labelled, float):
        return abs(said - labelled) / max(abs(said), abs(labelled))
    return row["probability"] or 0.0
