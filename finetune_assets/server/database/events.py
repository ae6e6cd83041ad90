"""What happened to jobs, in words and, for training steps, in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from finetune_assets.server.database.connection import Database, Rows, records
from finetune_assets.server.database.schema import Event, new_id

_OF_JOB = records(Event).where(Event.job_id == bindparam("job_id"))


class EventStore:
    """Reads events; safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, job_id: str, *, after: str | None, limit: int) -> Rows[Event]:
        """List what happened to a job, the newest first.

        Raises:
            UnknownCursorError: `after` is not the id of an event.
        """
        return self._database.page(_OF_JOB, Event.id, after=after, limit=limit, job_id=job_id)

    def metrics(self, job_id: str) -> list[dict[str, Any]]:
        """Collect the metrics of every training step, in order. A step trained again counts as it was last."""
        query = select(Event.data).where(Event.job_id == job_id, Event.type == "metrics").order_by(Event.number)
        with self._database.reading() as session:
            by_step = {data["step"]: data for data in session.scalars(query) if data is not None}
        return [by_step[step] for step in sorted(by_step)]


def tell(
    session: Session,
    job_id: str,
    message: str,
    level: str = "info",
    type_: str = "message",
    data: dict[str, Any] | None = None,
) -> None:
    """Add an event to the transaction that makes it true."""
    event_id = new_id("ftevent-")
    session.add(Event(id=event_id, job_id=job_id, level=level, type=type_, message=message, data=data))


def step_message(metrics: Mapping[str, Any]) -> str:
    """Put a step's metrics into a sentence: `Step 60/200: training loss=0.73, validation loss=1.46`."""
    if "train_mean_reward" in metrics:
        return _rewarded(metrics)
    told = [f"training loss={metrics.get('train_loss', math.nan):.2f}"]
    losses = {"validation loss": "valid_loss", "full validation loss": "full_valid_loss"}
    told += [f"{name}={metrics[key]:.2f}" for name, key in losses.items() if key in metrics]
    return f"Step {metrics['step']}/{metrics['total_steps']}: {', '.join(told)}"


def _rewarded(metrics: Mapping[str, Any]) -> str:
    """The same of reinforcement: `Step 10/20, train mean reward=0.42, full validation mean reward=0.68`."""
    told = [f"train mean reward={metrics['train_mean_reward']:.2f}"]
    if "full_valid_mean_reward" in metrics:
        told.append(f"full validation mean reward={metrics['full_valid_mean_reward']:.2f}")
        told.append(f"full validation mean parse error={metrics['full_valid_mean_parse_error']:.2f}")
    return f"Step {metrics['step']}/{metrics['total_steps']}, {', '.join(told)}"
