"""Records of JSON and JSON Lines. These have no header: a column is one that some of the first records have."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import orjson
from upath import UPath

from finetune_assets.dataset.impostors import require_data
from finetune_assets.dataset.json_lines import BYTE_ORDER_MARK, JsonProblem, explain, kind, lines, loaded, not_an_object
from finetune_assets.dataset.reading.cells import Cells, cell
from finetune_assets.dataset.reading.encoding import encoding_of
from finetune_assets.dataset.reading.header import plain, require, root
from finetune_assets.errors import SourceError
from finetune_assets.task.dialect import Dialect

_FIRST_RECORDS = 1000
"""Records that are looked through for a column before it counts as missing."""

_NAME_IT = "name the list with `source.dialect: {records: KEY}`"
Record = tuple[int, Cells | str]


def json_rows(
    path: UPath, needed: Collection[str], optional: Collection[str], dialect: Dialect
) -> Iterator[tuple[int, Cells | str]]:
    """Stream each entry's number, from 1, with its cells or what is wrong with it.

    Raises:
        SourceError: the file is no JSON, holds no list of objects or several, or none of the first has a column.
    """
    entries = records_of(path, json_value(path, dialect), dialect.records)
    yield from _with_columns(path, _judged(entries), needed, optional)


def jsonl_rows(
    path: UPath, needed: Collection[str], optional: Collection[str], dialect: Dialect
) -> Iterator[tuple[int, Cells | str]]:
    """Stream each line's number, from 1, with its cells or what is wrong with it.

    Raises:
        SourceError: the objects are written over several lines, or none of the first has a column.
    """
    encoding = encoding_of(path, dialect.encoding)
    begin = _beginning(path, encoding)
    if begin.startswith("["):
        with suppress(SourceError):  # not one list after all: then its lines are told apart
            entries = json_value(path, dialect)
            yield from _with_columns(path, _judged(entries), needed, optional)
            return
    yield from _with_columns(path, _line_records(path, encoding, begin), needed, optional)


def json_value(path: UPath, dialect: Dialect | None = None) -> Any:
    """Read a JSON file.

    Raises:
        SourceError: it cannot be opened, or is no JSON (the message names line and column).
    """
    encoding = "utf-8"
    try:
        require_data(path)
        data = path.read_bytes()
        encoding = (dialect.encoding if dialect else None) or _json_encoding(data)
        if encoding != "utf-8":
            data = data.decode(encoding).lstrip("\ufeff").encode()
        return loaded(data.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        by_line = error.msg.startswith("unexpected content after document") and error.lineno > 1
        advice = "if each line is an object, call the file .jsonl, else mend the JSON" if by_line else "mend the JSON"
        raise SourceError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}; {advice}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: is not {encoding}: {error}; save the file as UTF-8") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"{path}: {error}") from error


def _json_encoding(data: bytes) -> str:
    return "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"


def records_of(path: UPath, found: object, key: str | None) -> list[Any]:
    """Return the list of records in what a JSON file holds: all of it, what the key names, or the only list of objects.

    Raises:
        SourceError: it is not there, or there are several.
    """
    if key is not None:
        named = cell(found, key) if type(found) is dict else None
        if type(named) is not list:
            raise SourceError(
                f"{path}: source.dialect.records: {key} must be a list, found {kind(named)}{_keys(found)}"
            )
        return named
    if type(found) is list:
        return found
    lists = {name: part for name, part in found.items() if _is_of_objects(part)} if type(found) is dict else {}
    if len(lists) == 1:
        return next(iter(lists.values()))
    if lists:
        names = " and ".join(map(repr, lists))
        remedy = "this is a COCO file: write `kind: coco`" if {"images", "categories"} <= lists.keys() else _NAME_IT
        raise SourceError(f"{path}: has several lists of records, {names}; {remedy}")
    remedy = f"; {_NAME_IT}, or write it as a list of objects" if type(found) is dict else ""
    raise SourceError(f"{path}: must be a list of entries, found {kind(found)}{_keys(found)}{remedy}")


def _is_of_objects(part: object) -> bool:
    return type(part) is list and bool(part) and all(type(entry) is dict for entry in part)


def _keys(found: object) -> str:
    return f" with the keys {', '.join(list(found)[:10])}" if isinstance(found, dict) else ""


def _judged(entries: Iterable[Any]) -> Iterator[Record]:
    for number, entry in enumerate(entries, 1):
        yield number, entry if type(entry) is dict else f"entry {number} must be an object, found {kind(entry)}"


def _with_columns(
    path: UPath, records: Iterator[Record], needed: Collection[str], optional: Collection[str]
) -> Iterator[Record]:
    """Stream the records once some of the first have each of the needed columns."""
    first = list(islice(records, _FIRST_RECORDS))
    rows = [row for _, row in first if not isinstance(row, str)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    wanted = [*needed, *optional]
    spelled = {plain(root(column, names)): root(column, names) for column in wanted}
    renamed = {name: spelled[plain(name)] for name in names if spelled.get(plain(name), name) != name}
    if rows:
        require(path, needed, [*(name for name in names if name not in renamed), *renamed.values()])
        _require_inner(path, needed, rows)
    everything = chain(first, records)
    if not renamed:
        yield from everything
        return
    for number, row in everything:
        yield number, row if isinstance(row, str) else {renamed.get(name, name): part for name, part in row.items()}


def _require_inner(path: UPath, needed: Iterable[str], rows: list[Cells]) -> None:
    """Refuse a key `b` of `a.b` where the objects in `a` all lack it; a place beyond a list's end may come later."""
    for column in needed:
        outer, dot, inner = column.partition(".")
        objects = [row[outer] for row in rows if type(row.get(outer)) is dict] if dot and column not in rows[0] else []
        if objects:
            names = list(dict.fromkeys(name for entry in objects for name in entry))
            _require_named(path, column, inner, names)


def _require_named(path: UPath, column: str, inner: str, names: list[str]) -> None:
    try:
        require(path, [inner], names)
    except SourceError as error:
        raise SourceError(str(error).replace("the table lacks the columns", f"{column}: the objects lack")) from error


def _beginning(path: UPath, encoding: str) -> str:
    """Return the first lines of a file, enough to see how it begins."""
    with path.open("r", encoding=encoding, errors="replace", newline=None) as file:
        return file.read(1 << 16).lstrip("\ufeff \t\n")


def _line_records(path: UPath, encoding: str, begin: str) -> Iterator[Record]:
    if (n_lines := _lines_of_the_first_object(begin)) > 1:
        raise SourceError(
            f"{path}: the first object is written over {n_lines} lines; write one object a line (`jq -c . FILE`), "
            "or put commas between them and brackets around them, and call the file .json"
        )
    for number, row in lines(path) if encoding == "utf-8-sig" else _transcoded(path, encoding):
        if not isinstance(row, JsonProblem):
            yield number, row
        elif row.code != "blank_line":
            yield number, row.message


def _lines_of_the_first_object(begin: str) -> int:
    if not begin.startswith("{"):
        return 1
    try:
        _, end = json.JSONDecoder().raw_decode(begin)
    except ValueError:
        # Cut off, or broken: pretty-printed objects begin with a bracket that stands alone.
        first, _, rest = begin.partition("\n")
        return rest.count("\n") if first.strip() == "{" and rest.lstrip().startswith('"') else 1
    return begin.count("\n", 0, end) + 1


def _transcoded(path: UPath, encoding: str) -> Iterator[tuple[int, Cells | JsonProblem]]:
    with path.open("r", encoding=encoding, errors="surrogateescape" if "16" not in encoding else "replace") as file:
        for number, line in enumerate(file, 1):
            data = line.lstrip("\ufeff").encode("utf-8", "surrogateescape")
            try:
                value = loaded(data)
            except ValueError:
                yield number, explain(data)
            else:
                yield number, value if type(value) is dict else not_an_object(value)
