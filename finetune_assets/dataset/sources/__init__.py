"""Where labelled examples come from: one module per kind of source, one way to read them all.

Each module has `read`, which streams the examples of one region, or of all of them where that is "", and `regions`,
which streams the region of every record. Here is what all of them have in common.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson
from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.reading import table_files
from finetune_assets.dataset.sources import (
    chat_jsonl,
    coco,
    diamonds,
    dicom,
    elpv,
    generated,
    huggingface,
    image_folder,
    image_qa,
    label_studio,
    science_facts,
    scored_images,
    sql,
    table,
    voc,
    yolo,
)
from finetune_assets.dataset.sources.origin import key
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.errors import SourceError
from finetune_assets.task import Task
from finetune_assets.task.all_sources import Source
from finetune_assets.task.annotations import SqlSource
from finetune_assets.task.answers import Answer
from finetune_assets.task.sources import FileSource, HuggingFaceSource, TableSource

_MODULES: dict[str, Any] = {
    "elpv": elpv,
    "diamonds": diamonds,
    "science_facts": science_facts,
    "generated": generated,
    "scored_images": scored_images,
    "image_qa": image_qa,
    "chat_jsonl": chat_jsonl,
    "table": table,
    "huggingface": huggingface,
    "image_folder": image_folder,
    "label_studio": label_studio,
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "dicom": dicom,
    "sql": sql,
}
_HASHED = ("system", "question", "answer", "score", "image", "group", "subgroup", "doubt", "problem")
_LOOK_AT_CLOCK = 1_000
"""Examples between two looks."""
MAX_REGIONS = 10_000
"""Most regions that are discovered; more are a sign that the wrong column was named."""


def read(source: Source, region: str, answer: Answer) -> Iterator[Example]:
    """Stream one region's examples in the order of the source.

    A row that is no example is yielded with its `problem`; one that names no region is yielded for every region.
    Ids are the source's own keys: where it repeats itself, they repeat.

    Raises:
        SourceError: the source cannot be opened, is not of its format at all, or does not know the region.
    """
    is_there, problem = False, ""
    for example in _MODULES[source.kind].read(source, region, answer):
        is_there = is_there or example.problem is None
        problem = problem or (example.detail or "")
        yield example
    if not is_there and region not in (found := discover(source)):
        known = f"its regions are {', '.join(found[:20])}" if found else "it names none"
        first = f". The first problem in it: {problem}" if problem else ""
        raise SourceError(f"{_name(source)}: nothing in it is of the region {region!r}; {known}{first}")


def first_records(source: Source, answer: Answer, n: int) -> list[Example]:
    """Read what the first n records hold that are of the first region, or of none; no more of the file is read.

    Raises:
        SourceError: the source cannot be opened, or is not of its format at all.
    """
    named = list(islice(_MODULES[source.kind].regions(source), n))
    region = next(filter(None, named), "")
    n_read = named.count(region) + (named.count("") if region else 0)
    return list(islice(_MODULES[source.kind].read(source, region, answer), max(n_read, 1)))


def discover(source: Source) -> list[str]:
    """List the regions that the data names, sorted; the whole source is read.

    Raises:
        SourceError: the source cannot be opened, or has more than `MAX_REGIONS` regions.
    """
    found: set[str] = set()
    for region in _MODULES[source.kind].regions(source):
        found.add(region)
        if len(found) > MAX_REGIONS:
            first = ", ".join(sorted(found)[:3])
            raise SourceError(f"{_name(source)}: has over {MAX_REGIONS} regions ({first}, ...); name another column")
    return sorted(found - {""})


def regions_of(task: Task) -> list[str]:
    """List a task's regions: those of its YAML file, or those of its data where that says `discover`.

    Raises:
        SourceError: as `discover`.
    """
    return discover(task.source) if task.regions == "discover" else list(task.regions)


def version(source: Source) -> str:
    """Return what changes when the source's files change, without reading them; for a hub or a database, daily.

    Raises:
        SourceError: there are no such files.
    """
    if isinstance(source, HuggingFaceSource) and source.name is not None:
        return f"{source.name} {datetime.now(UTC):%Y-%m-%d}"
    if isinstance(source, SqlSource):
        return key(source.query, source.url_from, source.path, f"{datetime.now(UTC):%Y-%m-%d}")
    if not isinstance(source, FileSource | HuggingFaceSource):
        return source.kind  # the data of an installed package
    located = locate_all(source.path or "", source.folder)
    listed = table_files if isinstance(source, TableSource | HuggingFaceSource) else _all_files
    files = [file for place in located for file in (listed(place) if place.is_dir() else [place])]
    stats = ((str(file), file.stat().st_size, file.stat().st_mtime) for file in files)
    return key(*(part for stat in stats for part in stat))


def _all_files(folder: UPath) -> list[UPath]:
    return sorted((file for file in folder.rglob("*") if file.is_file()), key=str)


class Digest:
    """Hashes a region's examples while they stream by; the same for the same examples, wherever in a file they are.

    A row of which not even the question or image can be read does not count: it may be of any region.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, example: Example) -> None:
        """Hash one more."""
        if example.problem is not None and not example.question and example.image is None:
            return
        # Lines move when other regions' rows come and go, and a broken row is named after its line.
        name = example.id if example.problem is None else None
        self._hash.update(
            orjson.dumps([name, *(getattr(example, field) for field in _HASHED), *example.pictures], default=_plain)
        )

    def over(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yield the examples, hashed."""
        for example in examples:
            self.add(example)
            yield example

    def __str__(self) -> str:
        return self._hash.hexdigest()


def digests(source: Source, regions: Collection[str], answer: Answer, until: float) -> dict[str, str] | None:
    """Hash the rows of regions in one reading of the source; None where time was up, by the monotonic clock.

    A region that the data does not have is missing from the answer.

    Raises:
        SourceError: the source cannot be opened, is not of its format at all, or one of its regions has no meaning.
    """
    wanted, found = set(regions), dict[str, Digest]()
    for number, example in enumerate(_MODULES[source.kind].read(source, "", answer)):
        if number % _LOOK_AT_CLOCK == 0 and time.monotonic() > until:
            return None
        if example.region in wanted:
            found.setdefault(example.region, Digest()).add(example)
    return {region: str(digest) for region, digest in found.items()}


def _plain(value: object) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def _name(source: Source) -> str:
    return str(getattr(source, "path", None) or getattr(source, "name", None) or f"source {source.kind}")
