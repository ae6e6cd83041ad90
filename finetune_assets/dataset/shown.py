"""The images that an example shows, read from its row: none, one, or several in their order.

Of several, the row's `image` columns tell of the one in question, and its column `pictures` of all: a JSON list of
objects with the keys of `Shown`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One of the images that an example shows; what is said of it is as in the columns of `sampling.DTYPES`."""

    image: str
    """Where it is read from."""
    sha256: str
    bytes: int
    modified_ns: int | None
    width: int
    height: int
    format: str
    fit: bool
    original: str | None = None
    label: str | None = None
    """What is said before it."""
    reference: bool = False
    """Whether it is only there for comparison."""


_OF_ONE = ("sha256", "bytes", "modified_ns", "width", "height", "format", "fit", "original")


def written(shown: Iterable[Shown]) -> str:
    """Write what `pictures` holds of the images of one example."""
    return orjson.dumps([asdict(image) for image in shown]).decode()


def shown(row: Mapping[str, Any]) -> list[Shown]:
    """List the images of a row of sampled examples, in the order in which they are shown.

    Args:
        row: Its columns, None where a value is missing.
    """
    if pictures := row.get("pictures"):
        return [Shown(**image) for image in orjson.loads(pictures)]
    if row["image"] is None:
        return []
    return [Shown(image=row["image"], **{name: row.get(f"image_{name}") for name in _OF_ONE})]  # pyright: ignore[reportArgumentType]


def seen_sha256(row: Mapping[str, Any]) -> str | None:
    """Name what is seen of a row's images, 64 hexadecimal digits: the hash of the one, or of all with their labels."""
    pictures = row.get("pictures")
    return all_sha256(pictures) if pictures else row["image_sha256"]


def all_sha256(pictures: str) -> str:
    """Hash several images and what is said before each, in their order."""
    return labelled_sha256((image["label"], image["sha256"]) for image in orjson.loads(pictures))


def labelled_sha256(images: Iterable[tuple[str | None, str]]) -> str:
    """Hash several images, each given by its label and its hash, in their order."""
    return hashlib.sha256(orjson.dumps([list(image) for image in images])).hexdigest()


def with_references(row: Mapping[str, Any], hashes: Collection[str]) -> str | None:
    """Return a row's `pictures`, those whose SHA-256 begins with one of these 16 digits as references."""
    if not (pictures := row["pictures"]):
        return None
    images = shown({"pictures": pictures})
    return written(replace(image, reference=image.reference or image.sha256[:16] in hashes) for image in images)
