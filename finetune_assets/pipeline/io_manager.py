"""How values travel between assets: tables as Parquet, everything else as JSON, one file per region."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isclass
from typing import Any

import dagster as dg
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from finetune_assets.dataset.table import Table, write_table
from finetune_assets.pipeline.columns import lineage
from finetune_assets.results.files import write_json
from finetune_assets.results.records import Record


def _place(path: UPath) -> dict[str, str]:
    return {"dagster/uri": path.absolute().as_uri()}


@contextmanager
def _telling(context: dg.InputContext, path: UPath) -> Iterator[None]:
    """Say of a file that is gone or damaged which stage makes it anew; trying again would not help."""
    try:
        yield
    except (FileNotFoundError, pa.ArrowInvalid, orjson.JSONDecodeError) as error:
        stage, found = context.asset_key.path[-1], f"cannot be read ({error})"
        if isinstance(error, FileNotFoundError):
            found = "is gone"
        told = f"What {stage} made {found}: {path}. Materialise {stage} again."
        raise dg.Failure(told, allow_retries=False) from error


class ParquetIOManager(dg.UPathIOManager):
    """Keeps a table in `<task>/<stage>/<region>.parquet`.

    An asset returns a DataFrame, which is written here, or a `Table` that it has written to this place itself. An
    input annotated `Table` is given the table unread, any other a DataFrame.
    """

    extension = ".parquet"

    def dump_to_path(self, context: dg.OutputContext, obj: pd.DataFrame | Table, path: UPath) -> None:
        """Write the table, unless that is done, and show its columns as they are in the file."""
        if isinstance(obj, pd.DataFrame):
            write_table(path, obj)
        elif str(obj.path) != str(path):
            raise ValueError(f"the table must be written to {path}, it is in {obj.path}")
        with path.open("rb") as file:
            columns = pq.read_schema(file)
        schema = dg.TableSchema([dg.TableColumn(column.name, str(column.type)) for column in columns])
        before = lineage(context.asset_key)
        context.add_output_metadata(
            {
                "dagster/column_schema": schema,
                **({"dagster/column_lineage": before} if before else {}),
                **_place(path),
            }
        )

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame | Table:
        """Read the table, or only point to it."""
        table = Table(path)
        with _telling(context, path):
            if context.dagster_type.typing_type is not Table:
                return table.frame()
            # Its end is read, where all that it holds is listed: a file that is half of one has none.
            len(table)
            return table


class JsonIOManager(dg.UPathIOManager):
    """Keeps what a stage hands on in `<task>/<stage>/<region>.json`: a `Record`, or a dictionary.

    An input annotated as a record is read as one, and refused by name where it is none; see `results.records`.
    """

    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: Record | dict[str, Any], path: UPath) -> None:
        """Write it."""
        write_json(path, obj.model_dump(mode="json") if isinstance(obj, Record) else obj)
        context.add_output_metadata(_place(path))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Record | dict[str, Any]:
        """Read it."""
        kind = context.dagster_type.typing_type
        with _telling(context, path):
            return kind.read(path) if isclass(kind) and issubclass(kind, Record) else orjson.loads(path.read_bytes())
