"""One labelled example as a source yields it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune_assets.task import Split


@dataclass(frozen=True, slots=True)
class Picture:
    """One of several images of an example."""

    image: str | bytes
    """As `Example.image`."""
    label: str | None = None
    """What is said before it."""
    is_reference: bool = False
    """Whether it is only there for comparison, and may be shown in several splits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An image and a question with the expert's answer, or a row that could not become one.

    A row with a `problem` (a quarantine reason) is carried along rather than dropped, so that
    the counts of every stage add up to the rows of the source.
    """

    id: str
    """Unique in its task and the same on every read: derived from the source's own key, not from its position.

    Empty where the key would not be the same elsewhere: the example is then named after what it shows."""
    region: str
    source: str
    """The file it was read from."""
    line: int | None = None
    """Line in that file, or row of a Parquet table, from 1; None where the format has neither."""
    system: str | None = None
    """The file's own system message; None where it has none and the task's prompt speaks."""
    question: str = ""
    answer: str | None = None
    """The label in the task's own words, or None where the row has none that can be read."""
    score: float | None = None
    """The label as a number: for yes or no, from 0 to 1 as the source gives it; for number answers the number."""
    image: str | bytes | None = None
    """Path of the image, its URL, or its bytes where the source holds them; of several the one in question."""
    pictures: tuple[Picture, ...] = ()
    """All images in the order in which they are shown, where there are several, or one with a label."""
    group: str | None = None
    """Examples that share it (one patient, one panel) never fall into two splits; None stands alone."""
    published: Split | None = None
    """The split that it was published in, where the source says so: it is used as published."""
    subgroup: str | None = None
    """What the benchmark is also reported by, such as the camera; None where the source names nothing."""
    doubt: str | None = None
    """Why the label should be decided by a reviewer first, or None."""
    problem: str | None = None
    detail: str = ""


def of_several(pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return the fields of an example that shows these images: the last that is no reference is in question."""
    asked = next((picture for picture in reversed(pictures) if not picture.is_reference), pictures[-1])
    return {"image": asked.image, "pictures": tuple(pictures)}
