"""Tables for tests: written as bytes, read as records."""

from collections.abc import Sequence
from pathlib import Path

from upath import UPath

from finetune_assets.dataset.reading import rows
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.task.dialect import Dialect


def read(
    path: Path, content: str | bytes | None = None, needed: Sequence[str] = ("a", "b"), **dialect: object
) -> list[tuple[int, Cells | str]]:
    """Write a table's content, if given, and read its records."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(rows(UPath(path), needed, dialect=Dialect.model_validate(dialect)))
