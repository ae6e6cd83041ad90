"""Writes what a stage leaves: each file beside its place and then moved there.

A killed run leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import pandas as pd
    from upath import UPath


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
