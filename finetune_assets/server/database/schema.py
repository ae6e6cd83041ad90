"""The tables, as the rest of the server sees their rows.

files         one uploaded or produced file; its bytes are `<home>/files/<content>`
uploads       one file that comes in parts
upload_parts  one part of it
jobs          one fine-tuning job and the state it is in
events        what happened to a job, in the order of `number`
models        one fine-tuned model, or one checkpoint of a job (it has a `step`); its weights are `<home>/models/<path>`
batches       one file of chat completions to be made, and how far that is
completions   one completion that a client wants kept, with the conversation that it answers
tokens_of_day how many tokens the completions of an owner had on a day
home          one row: the id of this database, by which `seal` knows it

`number` is given out while one transaction at a time adds such rows, so it is the order in which they were committed,
over all processes (events: those of a job); lists are paged by it. Deleted files and models keep their row, so that a
client that deletes while it pages can still name the deleted row as its cursor.
"""

from __future__ import annotations

import secrets
import string
import time
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """`prefix` and `length` random letters and digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Row(DeclarativeBase):
    """Every table counts its rows in `number`, names them in `id`, and stamps them in Unix seconds."""

    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it from the class)
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        # PostgreSQL's INTEGER ends at two gigabytes, and in 2038.
        int: BigInteger().with_variant(Integer, "sqlite"),
    }

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[int] = mapped_column(default=lambda: int(time.time()))


class StoredFile(Row):
    """A file that a client uploaded or a job produced."""

    __tablename__ = "files"
    __table_args__ = (
        Index("files_by_content", "content"),
        Index("files_by_owner", "owner"),
    )

    expires_at: Mapped[int | None]
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    content: Mapped[str]
    """SHA-256 of the bytes in hex, which names them on disk: equal files share them."""
    deleted: Mapped[bool] = mapped_column(default=False)
    owner: Mapped[str] = mapped_column(default="")
    """Name of the key that asked for it; empty where an earlier version kept none."""


class Upload(Row):
    """A file that a client sends in parts. It becomes a `StoredFile` when it is completed."""

    __tablename__ = "uploads"
    __table_args__ = (Index("uploads_by_owner", "owner"),)

    status: Mapped[str]
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    """What the parts must add up to."""
    mime_type: Mapped[str]
    expires_at: Mapped[int]
    file_expires_in: Mapped[int | None]
    """Seconds the file is kept for once it is complete; None is for ever."""
    file_id: Mapped[str | None]
    owner: Mapped[str] = mapped_column(default="")


class UploadPart(Row):
    """Some bytes of an upload."""

    __tablename__ = "upload_parts"
    __table_args__ = (Index("upload_parts_by_upload", "upload_id", "number"),)

    upload_id: Mapped[str]
    bytes: Mapped[int]


class Job(Row):
    """A fine-tuning job."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_status", "status", "number"),
        Index("jobs_by_idempotency_key", "idempotency_key"),
        Index("jobs_by_request_hash", "request_hash"),
        Index("jobs_by_owner", "owner"),
    )

    status: Mapped[str]
    model: Mapped[str]
    """The base model as the client named it: an alias, a name or a fine-tuned model."""
    base: Mapped[str]
    """The base model under all adapters of `model`, as a client named it."""
    training_file: Mapped[str]
    validation_file: Mapped[str | None]
    suffix: Mapped[str | None]
    seed: Mapped[int]
    method: Mapped[str] = mapped_column(default="supervised")
    """`supervised`, `dpo` or `reinforcement`."""
    reinforcement: Mapped[dict[str, Any] | None]
    """What judges answers (`grader`), and how they come about (`response_format`, `reasoning_effort`), as asked for."""
    hyperparameters: Mapped[dict[str, Any]]
    """As asked for, `auto` included; numbers once the trainer has resolved them."""
    meta: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    integrations: Mapped[list[Any] | None]
    """As the client sent them."""
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str | None]
    """SHA-256 of what the client asked for, by which a repeated request is known."""
    validated: Mapped[bool] = mapped_column(default=False)
    """Whether the files were found fine; a paused job goes on with what is left to do."""
    tuned_model: Mapped[str]
    """Name of the model to come. Clients see it when the job has succeeded."""
    estimated_finish: Mapped[int | None]
    finished_at: Mapped[int | None]
    trained_tokens: Mapped[int | None]
    result_file: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    interruptions: Mapped[int] = mapped_column(default=0)
    """How often the server vanished while a process worked on this job."""
    owner: Mapped[str] = mapped_column(default="")
    claim: Mapped[int] = mapped_column(default=0)
    """Counts those who took the job up. Whoever works on it says which he is with every step; that of an earlier one is
    refused."""
    worker: Mapped[str | None]
    """Who took it up last, for people."""
    lease_until: Mapped[float | None]
    """Unix seconds by the database's clock, until when nobody else takes the job up; None: nobody works on it."""
    state: Mapped[str | None]
    """Where training can go on from, in the store that several homes share."""


class Event(Row):
    """Something that happened to a job."""

    __tablename__ = "events"
    __table_args__ = (Index("events_by_job", "job_id", "number"),)

    job_id: Mapped[str]
    level: Mapped[str]
    type: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any] | None]


class TunedModel(Row):
    """A model that can be asked: the result of a job (`step` is None) or one of its checkpoints."""

    __tablename__ = "models"
    __table_args__ = (Index("models_by_job", "job_id", "number"),)

    job_id: Mapped[str]
    base: Mapped[str]
    """The base model under all adapters, as the client named it."""
    path: Mapped[str]
    """Folder of the weights, relative to the home."""
    step: Mapped[int | None]
    checkpoint_id: Mapped[str | None] = mapped_column(unique=True)
    metrics: Mapped[dict[str, Any] | None]
    calibration: Mapped[dict[str, Any] | None]
    """What is registered to make its probabilities mean something (`calibration`)."""
    deleted: Mapped[bool] = mapped_column(default=False)


class Batch(Row):
    """Chat completions that are made in the background, from a file and into files."""

    __tablename__ = "batches"
    __table_args__ = (
        Index("batches_by_status", "status", "number"),
        Index("batches_by_owner", "owner"),
    )

    status: Mapped[str]
    endpoint: Mapped[str]
    model: Mapped[str | None]
    """What the first line asks; known once the file has been looked at."""
    input_file_id: Mapped[str]
    completion_window: Mapped[str]
    meta: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    output_expires_in: Mapped[int | None]
    """Seconds the output files are kept for."""
    expires_at: Mapped[int]
    stamps: Mapped[dict[str, Any]]
    """When each state was reached: `in_progress_at`, `finalizing_at`, `completed_at` and so on."""
    errors: Mapped[list[Any] | None]
    """What is wrong with the input file: objects of code, message, param and line."""
    output_file_id: Mapped[str | None]
    error_file_id: Mapped[str | None]
    usage: Mapped[dict[str, Any] | None]
    total: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str] = mapped_column(default="")
    claim: Mapped[int] = mapped_column(default=0)
    """As of jobs."""
    lease_until: Mapped[float | None]


class StoredCompletion(Row):
    """A completion that a client wants kept. A deleted one keeps its row, without what was said."""

    __tablename__ = "completions"
    __table_args__ = (Index("completions_by_owner", "owner"),)

    model: Mapped[str]
    meta: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    asked: Mapped[dict[str, Any]]
    """`messages` and `tools`, as the client sent them."""
    completion: Mapped[dict[str, Any]]
    """As it was answered."""
    bytes: Mapped[int]
    """Of both as JSON."""
    expires_at: Mapped[int]
    deleted: Mapped[bool] = mapped_column(default=False)
    owner: Mapped[str] = mapped_column(default="")


class TokensOfDay(Row):
    """Tokens of the completions of one owner on one day; `id` is the day and the owner."""

    __tablename__ = "tokens_of_day"

    tokens: Mapped[int]
