"""Looks at the images of examples, on all cores: what they are, and a thumbnail of each to compare them by.

Those from elsewhere are fetched many at once. An image of more than 8 bits is turned into 8 here, once, in the range
that the task names; whoever shows it or trains on it later reads the copy in the store, so that all see the same.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import BinaryIO

from finetune_assets.dataset import images
from finetune_assets.dataset.image_addresses import ImageAddresses, is_elsewhere
from finetune_assets.dataset.pixels.window import Window
from finetune_assets.errors import ImageError

FETCHED_AT_ONCE = 16
_REMEMBERED = 5_000
"""Images whose looks are kept, because the questions about one image usually follow each other."""
_SECONDS_BETWEEN_WORDS = 10.0


@dataclass(frozen=True, slots=True)
class Look:
    """What looking at an example's image told; nothing without an image, `error` where it failed."""

    address: str | None = None
    """Where it is read from hereafter; None for bytes that are no image."""
    n_bytes: int | None = None
    modified_ns: int | None = None
    """When the file was last modified, in nanoseconds since 1970; None where nobody can tell."""
    facts: images.ImageFacts | None = None
    thumbnail: int = -1
    """Number of the thumbnail in the file of thumbnails; -1 where there is none."""
    error: ImageError | None = None
    original: str | None = None
    """Of an image that is kept in 8 bits: where its own values are read from."""


NOTHING = Look()


class Looker:
    """Looks at images chunk by chunk; one that several examples share is looked at once.

    Pillow decodes without holding Python's lock, so threads keep all cores busy.

    Args:
        thumbnails: Binary file to which the thumbnails are appended.
        addresses: Reads the images.
        window: The range of stored values in which the task shows images of more than 8 bits.
        say: Is told now and then how many images were looked at.
    """

    def __init__(
        self,
        thumbnails: BinaryIO,
        addresses: ImageAddresses,
        window: Window | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        self._thumbnails = thumbnails
        self._addresses = addresses
        self._window = window
        self._say = say
        self._n_thumbnails = self._n_looked = self._n_fetched = 0
        self._said = time.monotonic()
        self._known: OrderedDict[str | bytes, Look] = OrderedDict()
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._fetching = ThreadPoolExecutor(FETCHED_AT_ONCE)

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._fetching.shutdown(cancel_futures=True)
        self._thumbnails.flush()

    def looks(self, shown: Sequence[str | bytes | None]) -> list[Look]:
        """Look at images; where there is none there is nothing to see."""
        keys = [None if image is None else _key(image) for image in shown]
        wanted = {key: image for key, image in zip(keys, shown, strict=True) if key is not None and image is not None}
        started = [(key, self._started(image)) for key, image in wanted.items() if key not in self._known]
        for key, look in started:
            self._known[key] = self._kept(look.result())
            self._tell()
        found = [NOTHING if key is None else self._known[key] for key in keys]
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _started(self, image: str | bytes) -> Future[Look]:
        elsewhere = is_elsewhere(image)
        self._n_fetched += elsewhere
        waits = elsewhere or self._addresses.store.is_shared
        return (self._fetching if waits else self._pool).submit(self._look, image)

    def _look(self, image: str | bytes) -> Look:
        data, modified_ns, address = b"", None, image if isinstance(image, str) else None
        try:
            read = self._addresses.read(image)
            data, modified_ns, address = read.data, read.modified_ns, read.address or address
            facts = images.inspect(data, self._window)
        except ImageError as error:
            return Look(address, len(data) or None, modified_ns, error=error)
        if facts.in_eight_bits is not None:
            data, modified_ns = facts.in_eight_bits, None
            shown = images.inspect(data)
            facts = replace(shown, sha256=facts.sha256, scale=facts.scale)
            original = address or self._addresses.store.keep(read.data)
            address = self._addresses.store.keep(data)
            return Look(address, len(data), modified_ns, facts, original=original)
        address = address or self._addresses.store.keep(data)
        return Look(address, len(data), modified_ns, facts)

    def _kept(self, look: Look) -> Look:
        """The same look with its thumbnail in the file and not in memory."""
        if look.facts is None:
            return look
        self._thumbnails.write(look.facts.thumbnail)
        self._n_thumbnails += 1
        facts = replace(look.facts, thumbnail=b"")
        return replace(look, facts=facts, thumbnail=self._n_thumbnails - 1)

    def _tell(self) -> None:
        self._n_looked += 1
        if self._say and time.monotonic() - self._said > _SECONDS_BETWEEN_WORDS:
            self._said = time.monotonic()
            self._say(f"looked at {self._n_looked:,} images, of which {self._n_fetched:,} are from elsewhere")


def _key(image: str | bytes) -> str | bytes:
    """What an image is known by; its bytes would take the memory of all that are remembered."""
    return hashlib.sha256(image).digest() if isinstance(image, bytes) else image
