"""Writes what a stage leaves: each file beside its place and then moved there; and says where a person opens it.

A killed run leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import pandas as pd
    from upath import UPath

_DAYS_SIGNED = 7
"""As long as stores sign for."""
_CONTENT_TYPE = {"s3": "ResponseContentType", "gs": "response_type", "gcs": "response_type"}
"""How a store is asked to say what a file is, by scheme: a browser shows a page only where it is told so."""


def address(path: UPath) -> str:
    """Return where a person opens a file: its path, or of one in an object store a URL that a browser opens for a week.

    The path where the store, or the credentials that are here, cannot sign.
    """
    if isinstance(path, Path):
        return str(path)
    kind, option = mimetypes.guess_type(path.name)[0], _CONTENT_TYPE.get(path.protocol)
    told = {option: kind} if option and kind else {}
    try:
        return path.fs.sign(path.path, expiration=_DAYS_SIGNED * 86_400, **told)
    except Exception:  # noqa: BLE001 - stores have no common root of errors, and what was made is made
        return str(path)


def write_atomically(path: UPath, data: bytes) -> None:
    """Replace the file at `path`, creating its folder where needed."""
    from finetune_assets.dataset.table import replacing

    with replacing(path) as file:
        file.write(data)


def write_json(path: UPath, record: dict[str, Any]) -> None:
    """Write a dictionary, indented for people; NaN becomes null."""
    write_atomically(path, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def write_parquet(path: UPath, table: pd.DataFrame) -> None:
    """Write a table without its index."""
    from finetune_assets.dataset.table import write_table

    write_table(path, table)
