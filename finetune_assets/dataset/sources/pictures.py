"""What a row says of its image: where it is, or its bytes. Rows come from anywhere, so they do not choose what is read.

A path leads to a file below the table's folder, below a folder that the task itself names, or it is refused: also where
a symbolic link leads elsewhere, else a table that somebody sent could have any file of this machine trained on.
"""

from __future__ import annotations

import base64
import binascii
import os
import posixpath
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upath import UPath

from finetune_assets.dataset.identity import file_name
from finetune_assets.dataset.image_addresses import EXTRAS, WEB
from finetune_assets.dataset.images import MAX_FILE_BYTES
from finetune_assets.dataset.spelling import as_on_disk
from finetune_assets.errors import ImageError

_LONGEST = 80
_LONGEST_PATH = 1024
_BASE64 = "if it is an image in base64, write data:image/png;base64, before it"


def picture(written: object, folder: UPath, roots: Sequence[str] = ()) -> str | bytes:
    """Return an image's path or URL, or its bytes, as `image_addresses` reads them.

    Args:
        written: A path, relative to the table's folder or absolute; a URL with `https`, `s3`, `gs`, `az`, `file` or
            `data`; or the bytes themselves.
        folder: The table's folder.
        roots: Folders that the task names, relative to the table's or absolute: there images may lie as well.

    Raises:
        ImageError: `image_outside`, `image_unreachable` (a scheme that is not read) or `image_unreadable` (no base64,
            or nothing that could be a path).
    """
    if isinstance(written, bytes):
        return written
    text = str(written)
    try:
        return _located(text, folder, roots)
    except ImageError:
        raise
    except ValueError as error:  # a NUL, a lone surrogate, a bracket where a URL has its host
        raise ImageError("image_unreadable", f"{text[:_LONGEST]!r} is neither a path nor a URL: {error}") from error


def _located(text: str, folder: UPath, roots: Sequence[str]) -> str | bytes:
    if text[:5].lower() == "data:":
        return _data_url_bytes(text)
    scheme, found, rest = text.partition("://")
    scheme = scheme.lower()
    if not found and len(text) > _LONGEST_PATH:
        raise ImageError("image_unreadable", f"{text[:_LONGEST]!r}... is too long for a path; {_BASE64}")
    if not found:
        return _below(text, folder, roots)
    if scheme == "file":
        return _below(unquote(urlsplit(text).path), folder, roots)
    if scheme == WEB or scheme in EXTRAS:
        return f"{scheme}://{rest}"
    if _is_below(_normal(text), str(folder)):
        return text
    schemes = ", ".join(f"{one}://" for one in (WEB, "s3", "gs", "az"))
    advice = "use https://" if scheme == "http" else f"images are read from files and {schemes}"
    raise ImageError("image_unreachable", f"{text[:_LONGEST]!r} is not read; {advice}")


def named_folders(image: str | None, image_root: str | None, images: str | None = None) -> tuple[str, ...]:
    """List the folders that a task names: what stands before its `image`'s first column, `image_root`, `images`."""
    before = (image or "").partition("{")[0]
    return tuple(root for root in (before.rpartition("/")[0], image_root, images) if root)


def written_name(written: str | bytes) -> str:
    """Return what an image is called everywhere; "" where it has no such name: its bytes, or an absolute path."""
    return "" if isinstance(written, bytes) or written[:5].lower() == "data:" else file_name(written)


def _data_url_bytes(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64") or not head.lower().startswith("data:image/"):
        raise ImageError("image_unreadable", f"a data URL of an image begins data:image/png;base64, found {url[:40]!r}")
    if len(body) > MAX_FILE_BYTES * 4 // 3:
        raise ImageError("image_too_large", f"its data URL has more than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error as error:
        raise ImageError("image_unreadable", f"the image's data URL holds no base64: {url[:40]!r}") from error


def _below(written: str, folder: UPath, roots: Sequence[str]) -> str:
    """The path of a file in the table's folder, or in one that the task names."""
    allowed = [str(folder), *(str(folder / root) for root in roots)]
    if not isinstance(folder, Path):
        target = _normal(str(folder / written))
        if any(_is_below(target, _normal(root)) for root in allowed):
            return target
        raise _outside(written, folder)
    target = as_on_disk(folder, written)
    head, name = os.path.split(target)
    real = os.path.join(_real(head), name)  # noqa: PTH118 (a table has a million rows)
    if os.path.islink(real):  # noqa: PTH114
        real = os.path.realpath(real)
    if name in ("", ".", "..") or not any(_is_below(real, _real(root)) for root in allowed):
        raise _outside(written, folder)
    return target


def _normal(url: str) -> str:
    scheme, found, path = url.partition("://")
    return f"{scheme}://{posixpath.normpath(path)}" if found else posixpath.normpath(url)


@lru_cache(4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _is_below(path: str, root: str) -> bool:
    return path.startswith(root if root.endswith("/") else f"{root}/")


def _outside(written: str, folder: UPath) -> ImageError:
    advice = "if it is meant to be read, name its folder: `image_root: ...` under `source`"
    return ImageError("image_outside", f"{written[:_LONGEST]!r} leads out of the folder {str(folder)!r}; {advice}")
