"""Files that a source makes because its data holds no such file: they lie under `var/data`, and can be made again."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path

VAR = Path("var/data")


def keep_image(data: bytes) -> str:
    """Write the bytes of an image that a table or a chat holds inside, once, and return the file's path."""
    digest = hashlib.sha256(data).hexdigest()
    path = VAR.absolute() / "images" / digest[:2] / digest
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)
    return str(path)


def data_url_bytes(url: str) -> bytes | None:
    """Decode the bytes of a `data:` URL; None where it holds no base64."""
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        return None
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return None


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, even where two runs make it at once."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    beside.replace(path)
