"""The SHA-256 of weights and settings: written beside them when they are published, looked at when they are loaded.

`SHA256SUMS` has the form of `sha256sum`. Fine-tuned models and the bundled ones have one; a folder of one's own has its
model pinned by one too: `sha256sum *.safetensors *.json > SHA256SUMS`. Of a model from the hub, the cache names each
large file by its hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from finetune_assets.errors import BaseModelError

SUMS = "SHA256SUMS"
_PUBLISHED = ("*.safetensors", "*.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def write(folder: Path) -> None:
    """Note the hashes of a model that is complete."""
    names = sorted(path.name for pattern in _PUBLISHED for path in folder.glob(pattern))
    (folder / SUMS).write_text("".join(f"{_sum(folder / name)}  {name}\n" for name in names))


def check(folder: Path) -> None:
    """See whether the files of a model are those that were published, as far as that is noted.

    Raises:
        BaseModelError: one is not, or is gone.
    """
    for path, expected in (*_noted(folder), *_of_cache(folder)):
        if not path.is_file():
            raise BaseModelError(f"{path}: the file is gone, which {SUMS} names; {_REMEDY}")
        if (found := _sum(path)) != expected:
            told = f"its bytes were changed after it was published (SHA-256 {found[:12]}..., not {expected[:12]}...)"
            raise BaseModelError(f"{path}: {told}; {_REMEDY}")


_REMEDY = "put a backup of it there, or make the model again"


def _noted(folder: Path) -> Iterator[tuple[Path, str]]:
    if not (folder / SUMS).is_file():
        return
    for line in (folder / SUMS).read_text("utf-8", "replace").splitlines():
        # A star before the name says that it was read as bytes.
        expected, _, name = line.partition(" ")
        name = name.lstrip(" *")
        if not _SHA256.fullmatch(expected) or not name or Path(name).name != name:
            raise BaseModelError(f"{folder / SUMS}: {line[:80]!r} is no line of `sha256sum` about a file beside it")
        yield folder / name, expected


def _of_cache(folder: Path) -> Iterator[tuple[Path, str]]:
    """The weights in a folder of the hub's cache, which are links to files whose names are their hashes."""
    for path in folder.glob("*.safetensors"):
        if path.is_symlink() and _SHA256.fullmatch(stored := path.resolve().name):
            yield path, stored


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
