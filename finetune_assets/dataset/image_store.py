"""Images by content: whatever has no file of its own is kept once, under the hash of its bytes.

`<folder>/<first two digits>/<sha256>` holds the bytes, and `<folder>/fetched/<hash of a name>` the address of what was
fetched under that name, so that nothing is fetched twice. The folder may be any fsspec URL; it lies beside a task's
outputs, where other machines find it. A file is written whole or not at all, also where several runs write it at once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from finetune_assets.dataset.table import replacing

_KEPT = re.compile(r"/images/([0-9a-f]{2})/(\1[0-9a-f]{62})$")


@dataclass(frozen=True, slots=True)
class ImageStore:
    """The images of a task that have no file of their own."""

    folder: UPath

    @property
    def is_shared(self) -> bool:
        """Whether other machines find it under the same address, which they do not find a file of this one."""
        return not isinstance(self.folder, Path)

    def keep(self, data: bytes) -> str:
        """Keep the bytes of an image, once, and return the address to read them from."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest[:2] / digest
        if not path.exists():
            _write(path, data)
        return str(path)

    def fetched(self, name: str) -> str | None:
        """Return the address of what was fetched under a name, or None."""
        try:
            return self._note(name).read_text()
        except FileNotFoundError:
            return None

    def note(self, name: str, address: str) -> None:
        """Remember the address of what was fetched under a name."""
        _write(self._note(name), address.encode())

    def _note(self, name: str) -> UPath:
        return self.folder / "fetched" / hashlib.sha256(name.encode()).hexdigest()


def digest_of(address: str) -> str | None:
    """Return the SHA-256 (hex) of the bytes behind an address of a store, None for that of another file."""
    found = _KEPT.search(address)
    return found[2] if found else None


def _write(path: UPath, data: bytes) -> None:
    if isinstance(path, Path):
        with replacing(path) as file:
            file.write(data)
    else:
        # An object store shows an object when all of it has arrived.
        path.write_bytes(data)
