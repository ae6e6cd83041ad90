"""Parquet tables: the columns a task asks for, and the names that a dataset of Hugging Face gives to labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import orjson
from upath import UPath

from finetune_assets.dataset.impostors import require_data
from finetune_assets.dataset.reading.cells import Cells, label_name
from finetune_assets.dataset.reading.header import as_asked, require, root
from finetune_assets.errors import SourceError
from finetune_assets.task.dialect import Dialect

_Naming = Callable[[Any], Any]


def parquet_rows(
    path: UPath, needed: Collection[str], optional: Collection[str], _: Dialect
) -> Iterator[tuple[int, Cells]]:
    """Stream each row's number, from 1, with the cells of the columns that are asked for.

    Raises:
        SourceError: the table is no Parquet, lacks a column, or has one twice.
    """
    import pyarrow
    import pyarrow.parquet

    with path.open("rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            schema = table.schema_arrow
            columns = _columns(path, schema, needed, optional)
            naming = {asked: named for asked, own in columns.items() if (named := _features(schema).get(own))}
            renamed = {own: asked for asked, own in columns.items()}
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=list(renamed)):
                for row in batch.rename_columns([renamed[name] for name in batch.schema.names]).to_pylist():
                    number += 1
                    for column, named in naming.items():
                        row[column] = named(row[column])
                    yield number, row
        except pyarrow.ArrowException as error:
            raise _unreadable(path, error) from error


def _unreadable(path: UPath, error: Exception) -> SourceError:
    # Its end tells where everything is.
    advice = "its end is missing: copy it again" if "footer" in str(error).lower() else str(error)
    return SourceError(f"{path}: is not a readable Parquet file: {advice}")


def _columns(path: UPath, schema: Any, needed: Collection[str], optional: Collection[str]) -> dict[str, str]:
    """Return the table's own name of each column that is asked for."""
    names = as_asked(schema.names, (*needed, *optional))
    require(path, needed, names)
    for column in needed:
        _require_inner(path, schema, names, column)
    asked = dict.fromkeys(root(column, names) for column in (*needed, *optional))
    return {name: schema.names[names.index(name)] for name in asked if name in names}


def _require_inner(path: UPath, schema: Any, names: list[str], column: str) -> None:
    import pyarrow

    outer, dot, inner = column.partition(".")
    if not dot or column in names:
        return
    kind = schema.field(names.index(outer)).type
    if pyarrow.types.is_struct(kind):
        require(path, [inner], [kind.field(place).name for place in range(kind.num_fields)], f"They are in {outer!r}")


def _features(schema: Any) -> dict[str, _Naming]:
    """Return what names the labels of each column that the file's own metadata describes."""
    try:
        info = orjson.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]
        features = info["features"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: named for name, feature in features.items() if (named := _naming(feature))}


def _naming(feature: object) -> _Naming | None:
    """Return what turns a cell into names, or None where a feature has no labels in it."""
    if isinstance(feature, list):
        return _each(_naming(feature[0])) if len(feature) == 1 else None
    if not isinstance(feature, dict):
        return None
    if isinstance(feature.get("_type"), str):
        if feature["_type"] == "ClassLabel" and isinstance(feature.get("names"), list):
            return partial(label_name, feature["names"])
        return _each(_naming(feature.get("feature")))
    inner = {name: named for name, part in feature.items() if (named := _naming(part))}
    return (lambda found: _named_parts(found, inner)) if inner else None


def _each(naming: _Naming | None) -> _Naming | None:
    if naming is None:
        return None
    # A sequence of objects is kept as an object of sequences.
    return lambda found: [naming(part) for part in found] if isinstance(found, list) else naming(found)


def _named_parts(found: Any, inner: dict[str, _Naming]) -> Any:
    if not isinstance(found, dict):
        return found
    return {name: _through(inner.get(name), part) for name, part in found.items()}


def _through(naming: _Naming | None, part: Any) -> Any:
    if naming is None:
        return part
    return [naming(one) for one in part] if isinstance(part, list) else naming(part)


def schema_names(path: UPath) -> list[str]:
    """List a table's columns without reading a row.

    Raises:
        SourceError: it is no Parquet.
    """
    return _schema(path).names


def text_columns(path: UPath) -> list[str]:
    """List a table's columns that hold no bytes, such as images, without reading a row.

    Raises:
        SourceError: it is no Parquet.
    """
    return [field.name for field in _schema(path) if not _holds_bytes(field.type)]


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_nested(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _schema(path: UPath) -> Any:
    import pyarrow
    import pyarrow.parquet

    require_data(path)
    try:
        with path.open("rb") as file:
            return pyarrow.parquet.read_schema(file)
    except pyarrow.ArrowException as error:
        raise _unreadable(path, error) from error
