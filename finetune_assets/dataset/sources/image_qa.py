"""Image questions: a JSON list beside a folder of images.

An entry is `{"filename": ..., "question_answer": [{"question": ..., "answer": ...}]}`; a question with its answer may
also be a list of the two, one alone may do without the list around it or stand in the entry itself, and several may be
an object of them (by relation). So may the entries: by file name, or in lists by any name.
This is the layout of the MIRP benchmark (Wolf et al., MICCAI 2025). Answers may be 1 and 0, true and false,
yes and no, or the task's own words. All questions about one image stay in one split, because they share its bytes;
an entry's `group`, or a pattern on the file name, keeps several images together. Where the folders are several, images
of the same name in them (a slice as it is, the same slice rotated) stay together too, unless `same_names: apart`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from upath import UPath

from finetune_assets.dataset.belonging.named import Named, published, split_of_file
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.identity import folded, group_name, region_matched, region_name
from finetune_assets.dataset.json_lines import kind
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.reading import table_files
from finetune_assets.dataset.reading.cells import text
from finetune_assets.dataset.reading.json_records import json_value, records_of
from finetune_assets.dataset.sources.origin import Origin, UnitsSaid, key
from finetune_assets.dataset.sources.pictures import picture
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.errors import ImageError, SourceError
from finetune_assets.task import Split
from finetune_assets.task.answers import Answer
from finetune_assets.task.sources import ImageQaSource


def read(source: ImageQaSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the questions of one region; one without a readable region is reported in every region.

    Raises:
        SourceError: a JSON file cannot be opened, or is no list, or there is no image folder.
    """
    belongs, said = _Belongs(source), UnitsSaid()
    for path, images in _files(source):
        if not images.is_dir():
            raise SourceError(
                f"{images}: there is no such folder; source.images is relative to the folder of {path.name}"
            )
        split = split_of_file(path, source.split_from_path, source.splits)
        for number, entry in enumerate(_entries(path), 1):
            record = Origin(region, path, number, "entry", split, said)
            for asked in _questions(source, path, entry):
                if (origin := record.of(asked.region or "")) is None:
                    continue
                if isinstance(asked, _Broken):
                    yield origin.problem(asked.reason, f"{origin.words} {asked.detail}")
                elif not asked.region:
                    yield origin.missing(_wanted(source))
                elif lacks := belongs.lacks(entry):
                    yield origin.problem(Reason.MISSING_FIELD, f"{origin.words} ({asked.filename}) {lacks}")
                else:
                    folder = images.name if "*" in source.images else ""
                    fields: dict[str, Any] = {
                        "id": f"{asked.filename}:{key(asked.question, folder)[:8]}",
                        "question": asked.question,
                        "group": belongs.group(entry),
                        "published": belongs.split(entry),
                    }
                    yield _example(origin, asked, images, answer, fields)
    belongs.require()


def _example(origin: Origin, asked: _Question, images: UPath, answer: Answer, fields: dict[str, Any]) -> Example:
    try:
        fields["image"] = picture(asked.filename, images)
    except ImageError as error:
        return origin.make(problem=error.reason, detail=f"{origin.words}: {error.detail}", **fields)
    return origin.example(asked.answer, answer, **fields)


def regions(source: ImageQaSource) -> Iterator[str]:
    """Stream the region of each question that has one."""
    for path, _ in _files(source):
        for entry in _entries(path):
            for asked in _questions(source, path, entry):
                if not isinstance(asked, _Broken):
                    yield asked.region


def _files(source: ImageQaSource) -> list[tuple[UPath, UPath]]:
    """List the JSON files, each with its image folder."""
    before, _, after = source.path.rpartition("/")[2].partition("*")
    found = []
    for path in (path for place in locate_all(source.path, source.folder) for path in table_files(place, (".json",))):
        images = source.images.replace("*", path.name[len(before) : -len(after) or None])
        found.append((path, UPath(images) if "://" in images else path.parent / images))
    return found


def _entries(path: UPath) -> list[Any]:
    """Read the entries of a file in their order, whatever holds them together."""
    found = json_value(path)
    parts = found.values() if type(found) is dict else ()
    if any(parts) and all(type(part) in (list, dict) for part in parts):
        listed = [entry for part in parts for entry in part]
        if all(type(entry) is dict and "filename" in entry for entry in listed):
            return listed
        return [{"filename": name, "question_answer": pairs} for name, pairs in found.items()]
    return records_of(path, found, None)


@dataclass(frozen=True, slots=True)
class _Question:
    filename: str
    question: str
    answer: object
    region: str


@dataclass(frozen=True, slots=True)
class _Broken:
    reason: Reason
    detail: str
    region: str | None = None
    """None where it is not known either, so that every region reports it."""


def _questions(source: ImageQaSource, path: UPath, entry: object) -> Iterator[_Question | _Broken]:
    if type(entry) is not dict:
        yield _Broken(Reason.MALFORMED_LINE, f"must be an object, found {kind(entry)}")
        return
    region = partial(_region, source, path, entry)
    filename, pairs = entry.get("filename"), entry.get("question_answer")
    if type(filename) is not str or not filename:
        yield _Broken(Reason.MISSING_FIELD, f"has no filename; its keys are {_keys(entry)}", region({}, "", "") or None)
        return
    if pairs is None and "question" in entry:
        pairs = entry
    if type(pairs) is dict:
        pairs = [pairs] if "question" in pairs else list(pairs.values())
    if type(pairs) is not list or not pairs:
        known = region({}, filename, "") or None
        yield _Broken(Reason.MISSING_FIELD, f"({filename}) has no question_answer; its keys are {_keys(entry)}", known)
        return
    for pair in pairs:
        asked = _asked(pair)
        question = asked.get("question")
        if type(question) is not str or not question.strip():
            detail = f"({filename}) has no question in question_answer; found {kind(pair)}"
            yield _Broken(Reason.MISSING_FIELD, detail, region(asked, filename, "") or None)
        else:
            yield _Question(filename, question.strip(), asked.get("answer"), region(asked, filename, question))


def _asked(pair: object) -> dict[str, Any]:
    """Take a question with its answer as an object or as a list of the two."""
    if type(pair) is list and len(pair) == 2:
        return {"question": pair[0], "answer": pair[1]}
    return pair if type(pair) is dict else {}


def _keys(entry: dict[str, Any]) -> str:
    return ", ".join(entry) or "none"


def _region(
    source: ImageQaSource, path: UPath, entry: dict[str, Any], asked: dict[str, Any], filename: str, question: str
) -> str:
    if source.region is not None:
        return source.region
    if source.region_field is not None:
        return region_name(asked.get(source.region_field, entry.get(source.region_field)))
    if source.region_from_path is not None:
        return region_matched(source.region_from_path, path.name)
    if source.region_pattern is not None:
        return region_matched(source.region_pattern, filename)
    return region_matched(source.region_from_question or "()", question)


class _Belongs:
    """What entries say of their group and of the split that they were published in."""

    def __init__(self, source: ImageQaSource) -> None:
        self._source = source
        self._groups = Named("source.group_pattern", source.group_pattern, source.group_pattern)
        self._published = Named("source.split_field", source.split_field)

    def lacks(self, entry: dict[str, Any]) -> str:
        """Say what is missing for an entry to be in a split with those it belongs to; "" for nothing."""
        if self._source.group_pattern is not None and self.group(entry) is None:
            return f"has no group: its name does not match {self._source.group_pattern!r}"
        if self._source.split_field is not None and self.split(entry) is None:
            return f"has no {self._source.split_field}, so nobody knows which split it was published in"
        return ""

    def group(self, entry: dict[str, Any]) -> str | None:
        """Name an entry's group: its own, else that of its file's name, else where folders are several the name."""
        if own := group_name(entry.get("group")):
            return own
        if self._source.group_pattern is not None:
            return self._groups.name(entry["filename"], entry) or None
        several = "*" in self._source.images and self._source.same_names == "together"
        return folded(entry["filename"].replace("\\", "/")) if several else None

    def split(self, entry: dict[str, Any]) -> Split | None:
        """Return the split that an entry was published in."""
        if self._source.split_field is None:
            return None
        found = entry.get(self._source.split_field)
        self._published.name(text(found), entry)
        return published(found, self._source.splits, "source.split_field")

    def require(self) -> None:
        """Refuse files of which no entry has what the task names."""
        self._groups.require(self._source.path)
        self._published.require(self._source.path)


def _wanted(source: ImageQaSource) -> str:
    if source.region_field is not None:
        return source.region_field
    if source.region_pattern is not None:
        return f"filename that matches {source.region_pattern!r}"
    if source.region_from_path is not None:
        return f"file whose name matches {source.region_from_path!r}"
    return f"question that matches {source.region_from_question!r}"
