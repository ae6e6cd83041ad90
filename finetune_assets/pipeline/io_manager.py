"""How values travel between assets: tables as Parquet, everything else as JSON, one file per region.

Every file is written beside its place and then moved there, so a killed run leaves the old file or the new one,
never half of one.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pandas as pd
from upath import UPath


def write_atomically(path: UPath, data: bytes) -> None:
    """Replace the file at `path`, creating its folder where needed; object stores replace whole objects anyway."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(path, Path):
        path.write_bytes(data)
        return
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: UPath, record: dict[str, Any]) -> None:
    """Write a dictionary, indented for people; NaN becomes null."""
    write_atomically(path, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def write_parquet(path: UPath, table: pd.DataFrame) -> None:
    """Write a table without its index."""
    write_atomically(path, table.to_parquet(index=False))


class ParquetIOManager(dg.UPathIOManager):
    """Keeps a DataFrame in `<task>/<stage>/<region>.parquet`."""

    extension = ".parquet"

    def dump_to_path(self, context: dg.OutputContext, obj: pd.DataFrame, path: UPath) -> None:  # noqa: ARG002
        """Write the table."""
        write_parquet(path, obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame:  # noqa: ARG002
        """Read the table."""
        with path.open("rb") as file:
            return pd.read_parquet(file)


class JsonIOManager(dg.UPathIOManager):
    """Keeps a dictionary in `<task>/<stage>/<region>.json`."""

    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: UPath) -> None:  # noqa: ARG002
        """Write the dictionary."""
        write_json(path, obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> dict[str, Any]:  # noqa: ARG002
        """Read the dictionary."""
        return orjson.loads(path.read_bytes())
