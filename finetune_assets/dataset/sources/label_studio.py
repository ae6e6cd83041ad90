"""Exports of Label Studio in its JSON format: a list of tasks, each with its data and several people's annotations.

Each completed annotation is a row: the task's data under their own names (and under `data`, so that `{data.image}` and
`{image}` are the same), `answer` and `annotator`. Cancelled annotations, drafts and predictions are left out; a task of
which nothing is left is set aside. The rows of one task are votes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.json_lines import kind
from finetune_assets.dataset.reading.cells import Cells
from finetune_assets.dataset.reading.json_records import json_value, records_of
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.dataset.spelling import as_on_disk
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import LabelStudioSource
from finetune_assets.task.answers import Answer

_VALUES = (
    "choices",
    "rating",
    "number",
    "text",
    "taxonomy",
    "rectanglelabels",
    "polygonlabels",
    "brushlabels",
    "labels",
)
"""Under which a control keeps what was chosen."""


def read(source: LabelStudioSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the tasks of one region.

    Raises:
        SourceError: the export cannot be opened, is of another format, or several controls were answered and none
            is named.
    """
    return columns.read_tables(source, _tables(source), region, answer)


def regions(source: LabelStudioSource) -> Iterator[str]:
    """Stream the region of each task that has one."""
    return columns.row_regions(source, _tables(source))


def _tables(source: LabelStudioSource) -> Iterator[Table]:
    for path in locate_all(source.path, source.folder):
        entries = records_of(path, json_value(path), None)
        control = source.control or _only_control(path, entries)
        yield Table(path, "entry", partial(_rows, entries, control, _Files(path.parent, source.images)))


def _rows(entries: list[Any], control: str | None, files: _Files) -> Iterator[tuple[int, Cells | str]]:
    for number, entry in enumerate(entries, 1):
        for row in _votes(entry, control, files):
            yield number, f"entry {number} {row}" if isinstance(row, str) else row


def _only_control(path: UPath, entries: list[Any]) -> str | None:
    """Name the control that was answered, which must be one; None where none was."""
    found = {
        str(part.get("from_name")) for entry in entries for result in _completed(entry) for part in result["result"]
    }
    if len(found) > 1:
        raise SourceError(
            f"{path}: several controls were answered ({', '.join(sorted(found))}); say which by `control` under source"
        )
    return next(iter(found), None)


def _votes(entry: object, control: str | None, files: _Files) -> Iterator[Cells | str]:
    if type(entry) is not dict or type(entry.get("data")) is not dict:
        yield f"must be a task with data and annotations, found {kind(entry)}; export JSON, or read JSON-MIN as a table"
        return
    data = {name: files.path(value) for name, value in entry["data"].items()}
    row = {**data, "data": data, "task": entry.get("id"), "answer": None, "annotator": None}
    votes = [
        (_annotator(found), part)
        for found in _completed(entry)
        for part in found["result"]
        if part.get("from_name") == control
    ]
    # A task that nobody answered is a row without an answer, which is set aside.
    yield from ({**row, "annotator": who, "answer": _value(part)} for who, part in votes)
    if not votes:
        yield row


def _completed(entry: object) -> list[dict[str, Any]]:
    annotations = entry.get("annotations") if type(entry) is dict else None
    found = annotations if type(annotations) is list else []
    return [
        {**one, "result": [part for part in one["result"] if type(part) is dict]}
        for one in found
        if type(one) is dict and not one.get("was_cancelled") and type(one.get("result")) is list
    ]


def _annotator(annotation: dict[str, Any]) -> str:
    by = annotation.get("completed_by")
    return str(
        (by.get("email") or by.get("id")) if type(by) is dict else by if by is not None else annotation.get("id")
    )


def _value(part: dict[str, Any]) -> object:
    """What was chosen: one choice by itself, several as a list, which is no answer that a task has."""
    value = part.get("value")
    found = next((value[name] for name in _VALUES if name in value), None) if type(value) is dict else None
    while type(found) is list and len(found) == 1:
        found = found[0]
    return found


class _Files:
    """The files of Label Studio's server (`/data/upload/1/a.png`, `/data/local-files/?d=a.png`), where they lie here.

    They may have been copied without the outer folders. The address with most of its folders that is a file is taken;
    where that would make one file of two, neither is.
    """

    def __init__(self, folder: UPath, images: str | None) -> None:
        self._folder = folder
        self._images = images
        self._named: dict[str, str] = {}
        """The address that each file was found for."""

    def path(self, value: object) -> object:
        """Return the path of a file of the server, relative to the export; any other value as it is.

        Raises:
            SourceError: the only file of that name was found for another address before.
        """
        if not isinstance(value, str):
            return value
        own = next((prefix for prefix in _SERVED if value.startswith(prefix)), None)
        if own is None:
            return value
        parts = value.removeprefix(own).split("/")
        tails = [parts[at:] for at in range(len(parts))]
        tails[1:1] = [[parts[0], *tail] for tail in tails[2:]]
        places = ["/".join([*([self._images] if self._images else []), *tail]) for tail in tails]
        found = next(filter(self._is_there, places), places[0])
        if (other := self._named.setdefault(found, value)) != value:
            raise SourceError(
                f"{self._folder}: {other} and {value} would both be {found}; keep the folders of Label Studio's files"
            )
        return found

    def _is_there(self, place: str) -> bool:
        return isinstance(self._folder, Path) and Path(as_on_disk(self._folder, place)).is_file()


_SERVED = ("/data/local-files/?d=", "/data/")
"""How addresses of Label Studio's server begin."""
