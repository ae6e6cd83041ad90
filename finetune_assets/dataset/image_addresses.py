"""Where an image is: a path, https, an object store, or the bytes themselves; all but a path is kept once.

Where outputs lie in an object store, another machine is to go on with them: then a file of this one is kept there too.

A source's rows name their images, and nobody knows who wrote them. So https speaks to public servers only
(`web_images`), object stores are asked for as many bytes as an image may have, and whatever fails is the problem of one
row. What was fetched is not fetched again; an object of a store is, when it has changed there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_assets.dataset import images
from finetune_assets.dataset.image_store import ImageStore
from finetune_assets.dataset.web_images import Fetcher
from finetune_assets.errors import ImageError

WEB = "https"
EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""Schemes of object stores, with the extra of this package that reads each."""
SECONDS = 60.0
"""For one image on the web."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}}
}


@dataclass(frozen=True, slots=True)
class Read:
    """An image's bytes, and where they can be read again."""

    data: bytes
    address: str | None
    """None for bytes that are kept nowhere yet."""
    modified_ns: int | None = None
    """When its file was last modified, in nanoseconds since 1970; None where nobody can tell."""


def is_elsewhere(image: str | bytes) -> bool:
    """Whether an image has to be fetched over a network."""
    return isinstance(image, str) and image.partition("://")[0] in (WEB, *EXTRAS)


def _fetch(url: str) -> bytes:
    return Fetcher(seconds=SECONDS, max_bytes=images.MAX_FILE_BYTES).fetch(url)


def read_named(image: str | Path) -> bytes:
    """Read an image that somebody asks about: a path or a URL, guarded like those of a table, and kept nowhere.

    Raises:
        ImageError: it is missing, unreachable or too large, or its scheme is not read.
    """
    scheme, found, _ = str(image).partition("://")
    if found and scheme == WEB:
        return _fetch(str(image))
    if found and scheme not in EXTRAS:
        schemes = ", ".join(f"{one}://" for one in (WEB, *dict.fromkeys(EXTRAS.values())))
        raise ImageError("image_unreachable", f"{str(image)[:80]!r} is not read; name a path, or one of {schemes}")
    return images.read(image)


@dataclass(frozen=True, slots=True)
class ImageAddresses:
    """Reads the images of a task, those from elsewhere once."""

    store: ImageStore
    fetch: Callable[[str], bytes] = field(default=_fetch)
    """Fetches an https URL."""

    def read(self, image: str | bytes) -> Read:
        """Read an image as a source names it: a path, a URL, or its bytes.

        Raises:
            ImageError: it is missing, unreachable or too large.
        """
        if isinstance(image, bytes):
            return Read(image, None)
        if image.startswith(f"{WEB}://"):
            return self._once(image, lambda: self.fetch(image))
        if is_elsewhere(image) and not image.startswith(f"{self.store.folder}/"):
            return self._from_object_store(image)
        data, modified_ns = images.read_dated(image)
        if self.store.is_shared and not is_elsewhere(image):
            return Read(data, self.store.keep(data))
        return Read(data, image, modified_ns)

    def _once(self, name: str, fetch: Callable[[], bytes]) -> Read:
        address = self.store.fetched(name)
        if address is not None:
            try:
                return Read(images.read(address), address)
            except ImageError:
                # Somebody tidied the store: then it is fetched once more.
                pass
        data = fetch()
        address = self.store.keep(data)
        self.store.note(name, address)
        return Read(data, address)

    def _from_object_store(self, url: str) -> Read:
        import fsspec

        scheme, _, path = url.partition("://")
        try:
            store: Any = fsspec.filesystem(scheme, **_OPTIONS.get(scheme, {}))
            facts = store.info(path)
            if (facts.get("size") or 0) > images.MAX_FILE_BYTES:
                detail = f"{url!r} has more than {images.MAX_FILE_BYTES // 2**20} MiB"
                raise ImageError("image_too_large", detail)
            version = {name: str(facts[name]) for name in sorted(_VERSION & facts.keys())}
            return self._once(f"{url} {version}", lambda: store.cat_file(path))
        except ImportError as error:
            advice = f"run: pip install 'finetune_assets[{EXTRAS[scheme]}]'"
            raise ImageError("image_unreachable", f"{url!r}: {scheme}:// needs a package; {advice}") from error
        except FileNotFoundError as error:
            raise ImageError("image_missing", f"there is no object {url!r}") from error
        except ImageError:
            raise
        except Exception as error:
            # The libraries of three providers have no common root of their errors.
            raise ImageError("image_unreachable", f"{url!r} cannot be read: {type(error).__name__}: {error}") from error


_VERSION = {"ETag", "etag", "size", "LastModified", "last_modified", "generation", "md5Hash", "content_settings"}
"""What an object store says of an object that changes when its bytes do."""
