"""Reads files that somebody else wrote: each record with where it stands, within limits."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upath import UPath

from finetune_assets.dataset.json_lines import JsonProblem, lines, number_of_keys
from finetune_assets.dataset.reading.json_records import json_value
from finetune_assets.errors import SourceError, TaskError
from finetune_assets.task import yaml_file

MAX_BYTES = 64 * 1024 * 1024
"""Of one file. The largest exports have their images inside; larger ones can be cut by lines."""
MAX_RECORDS = 100_000
MAX_YAML_VALUES = 100_000
"""Of a YAML file with tests, aliases followed; more tests lie in a CSV or JSONL file of their own."""
_MAX_CELL = 1024 * 1024
JSON_LINES = (".jsonl", ".ndjson")
YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a file."""

    where: str
    """`<file>:<line>` or `<file>, <key>`."""
    value: Any
    """`JsonProblem` where the line is none."""


def require_readable(path: Path) -> None:
    """Refuse what is no file, or too large.

    Raises:
        SourceError: as said.
    """
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise SourceError(f"{path}: has {size / 2**20:,.0f} MiB, and at most {MAX_BYTES // 2**20} are read; cut it")


def json_document(path: Path) -> Any:
    """Read one JSON value.

    Raises:
        SourceError: it cannot be read, is no JSON, or is nested too deeply.
    """
    require_readable(path)
    found = json_value(UPath(path))
    if isinstance(found, dict | list) and number_of_keys(found) is None:
        raise SourceError(f"{path}: its values are nested too deeply")
    return found


def yaml_document(path: Path) -> yaml_file.YamlFile:
    """Read one YAML value with the lines of its keys.

    Raises:
        SourceError: it cannot be read, is no YAML, or says something twice.
    """
    require_readable(path)
    try:
        found = yaml_file.read(path, MAX_YAML_VALUES)
        if found.faults:
            raise yaml_file.refusal(path, found.faults)
        return replace(found, value=_as_in_1_2(path, found, found.value, ()))
    except TaskError as error:
        raise SourceError(str(error)) from error


_TRUTHS = {"true", "True", "TRUE", "false", "False", "FALSE"}
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,14})(?:\.\d+)?")
"""Written so, a number is the same to every reader."""


def _as_in_1_2(path: Path, file: yaml_file.YamlFile, value: Any, key: yaml_file.KeyPath) -> Any:
    """Read single values as YAML 1.2 does, and so the tools whose files these are: there `Yes` is a text.

    Raises:
        TaskFileError: a number is written in a way that readers take differently.
    """
    if isinstance(value, dict | list):
        entries = list(value.items() if isinstance(value, dict) else enumerate(value))
        read = [(name, _as_in_1_2(path, file, entry, (*key, name))) for name, entry in entries]
        return dict(read) if isinstance(value, dict) else [entry for _, entry in read]
    written = file.words.get(key, "")
    if isinstance(value, bool):
        return value if written in _TRUTHS else written
    if isinstance(value, int | float) and not _NUMBER.fullmatch(written):
        words = f"{written} is not the same number to every reader of YAML; put it in quotes"
        raise yaml_file.refusal(path, [file.fault(key, words)])
    return value


def json_lines(path: Path) -> Iterator[Record]:
    """Stream the lines that are not empty.

    Raises:
        SourceError: as `require_readable`.
    """
    require_readable(path)
    for number, line in lines(path):
        if isinstance(line, JsonProblem) and line.code == "blank_line":
            continue
        if number > MAX_RECORDS:
            raise SourceError(f"{path}: has over {MAX_RECORDS:,} lines; cut it")
        yield Record(f"{path.name}:{number}", line)


def csv_rows(path: Path) -> Iterator[Record]:
    """Stream the rows of a table with commas as texts by column.

    Raises:
        SourceError: as `require_readable`, or it is no UTF-8 or no CSV.
    """
    require_readable(path)
    csv.field_size_limit(_MAX_CELL)
    try:
        reader = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""), strict=True)
        for row in reader:
            where = f"{path.name}:{reader.line_num}"
            if None in row or None in row.values():
                yield Record(where, JsonProblem("invalid_row", "the row has more or fewer cells than the header"))
            else:
                yield Record(where, row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: is no CSV in UTF-8: {error}") from error


def beside(named: str, folder: Path) -> Path:
    """Return the file that a config names by a path or `file://` URL, which must lie in the config's own folder.

    Raises:
        SourceError: it lies elsewhere, also by a symbolic link, or its name is a pattern.
    """
    text = named.removeprefix("file://")
    if "://" in text or set(text) & set("*?[]\0"):
        raise SourceError(f"{named!r} is not read: name one file beside the config")
    found = (folder / text).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise SourceError(f"{named!r} lies outside of the config's folder, and is not read")
    return found
