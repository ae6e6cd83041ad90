"""What the page may send, checked before anything of it reaches the database.

Texts are what both databases can store: no lone surrogates, which JSON can escape, and no NUL, which PostgreSQL has
not.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from finetune_assets.feedback.store.queues import Queue

Place = Queue | Literal["table"]
"""Where an example was chosen: a queue, or by the reviewer himself in the table."""


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold the character NUL")
    return text


Name = Annotated[str, Field(max_length=1000), AfterValidator(_storable)]
Text = Annotated[str, Field(max_length=20_000), AfterValidator(_storable)]


class Body(BaseModel):
    """Any of them."""

    model_config = ConfigDict(extra="forbid")


class Take(Body):
    """Which queue of which region."""

    task: Name
    region: Name
    queue: Queue
    release: bool = False
    """Whether the examples that were lent to him in other queues go back first."""


class Open(Body):
    """Which example, chosen in the table."""

    task: Name
    region: Name
    example_id: Name


class Gold(Open):
    """An example's known answer; None makes it an ordinary one again."""

    answer: Text | None


class Said(Open):
    """What a reviewer did with an example, and the queue he is in."""

    key: UUID
    queue: Place
    kind: Literal["accept", "correct", "reject", "skip", "comment", "undo", "adjudicate"]
    answer: Text | None = None
    comment: Text | None = None
    undoes: UUID | None = None
    """Key of the event that is undone."""
    content: Annotated[str, Field(max_length=200), AfterValidator(_storable)] | None = None
    """What was shown."""
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None


def fault(error: ValidationError) -> str:
    """Say in a sentence what is wrong with a body."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'The request'}: {first['msg']}"
