"""Uploads that are found again: a file's name at the provider carries the hash of its content."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from openai.types import FileObject
from upath import UPath

from finetune_assets.errors import ProviderError
from finetune_assets.provider.client import Client, explained
from finetune_assets.provider.once import alone, once

Purpose = Literal["fine-tune", "batch"]
PROCESSING = ("pending", "running")
"""States in which Azure holds a file before jobs may use it."""
MAX_PROCESSING_S = 600


@dataclass(frozen=True)
class UploadedFile:
    """A file as the provider holds it."""

    id: str
    sha256: str
    """Hex digest of the content."""
    bytes: int
    reused: bool
    """Whether the provider had it already."""


def upload_once(client: Client, path: Path | UPath, purpose: Purpose = "fine-tune") -> UploadedFile:
    """Upload a JSONL file unless the provider already holds the same content under our name for it.

    Raises:
        ProviderError: the provider refused the file, cannot process it, or does not answer.
    """
    sha256 = content_hash(path)
    size = path.stat().st_size
    name = f"{path.stem}-{sha256[:32]}.jsonl"
    with explained(client), alone(client, name) as require_alone:
        file, reused = once(
            partial(_find, client, name, size, purpose),
            partial(_create, client.with_options(max_retries=0), path, name, purpose),
            require_alone,
        )
        _wait(client, file)
    return UploadedFile(file.id, sha256, size, reused)


def content_hash(path: Path | UPath) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _find(client: Client, name: str, size: int, purpose: Purpose) -> FileObject | None:
    listed = client.files.list(purpose=purpose)
    return next((f for f in listed if f.filename == name and f.bytes == size and f.status != "error"), None)


def _create(client: Client, path: Path | UPath, name: str, purpose: Purpose) -> FileObject:
    with path.open("rb") as body:
        return client.files.create(file=(name, body, "application/jsonl"), purpose=purpose)


def _wait(client: Client, file: FileObject) -> None:
    """Wait until jobs may use the file."""
    deadline = time.monotonic() + MAX_PROCESSING_S
    while file.status in PROCESSING:
        if time.monotonic() > deadline:
            raise ProviderError(f"{client.base_url} has processed {file.id} for {MAX_PROCESSING_S} s without an end")
        time.sleep(2)
        file = client.files.retrieve(file.id)
    if file.status == "error":
        why = file.status_details or "it gives no reason"
        raise ProviderError(f"{client.base_url} cannot process {file.id} ({file.filename}): {why}")
