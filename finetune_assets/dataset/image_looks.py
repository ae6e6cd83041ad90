"""Looks at the images of examples, on all cores: what they are, and a thumbnail of each to compare them by."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import BinaryIO

from finetune_assets.dataset import images
from finetune_assets.dataset.example import Example
from finetune_assets.errors import ImageError

_REMEMBERED = 5_000
"""Images whose looks are kept, because the questions about one image usually follow each other."""


@dataclass(frozen=True, slots=True)
class Look:
    """What looking at an example's image told; nothing without an image, `error` where it failed."""

    n_bytes: int | None = None
    modified_ns: int | None = None
    """When the file was last modified, in nanoseconds since 1970; None where nobody can tell."""
    facts: images.ImageFacts | None = None
    thumbnail: int = -1
    """Number of the thumbnail in the file of thumbnails; -1 where there is none."""
    error: ImageError | None = None


NOTHING = Look()


class Looker:
    """Looks at images chunk by chunk; one that several examples share is looked at once.

    Pillow decodes without holding Python's lock, so threads keep all cores busy.

    Args:
        thumbnails: Binary file to which the thumbnails are appended.
    """

    def __init__(self, thumbnails: BinaryIO) -> None:
        self._thumbnails = thumbnails
        self._n_thumbnails = 0
        self._known: OrderedDict[str, Look] = OrderedDict()
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._thumbnails.flush()

    def looks(self, rows: Sequence[Example]) -> list[Look]:
        """Look at the image of each row that has one and no problem yet."""
        paths = dict.fromkeys(row.image for row in rows if row.image is not None and row.problem is None)
        unknown = [path for path in paths if path not in self._known]
        for path, look in zip(unknown, self._pool.map(_look, unknown), strict=True):
            self._known[path] = self._kept(look)
        found = [self._known[row.image] if row.image in paths and row.problem is None else NOTHING for row in rows]
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _kept(self, look: Look) -> Look:
        """The same look with its thumbnail in the file and not in memory."""
        if look.facts is None:
            return look
        self._thumbnails.write(look.facts.thumbnail)
        self._n_thumbnails += 1
        facts = replace(look.facts, thumbnail=b"")
        return replace(look, facts=facts, thumbnail=self._n_thumbnails - 1)


def _look(path: str) -> Look:
    data, modified_ns = b"", None
    try:
        data, modified_ns = images.read_dated(path)
        return Look(len(data), modified_ns, images.inspect(data))
    except ImageError as error:
        return Look(len(data) or None, modified_ns, error=error)
