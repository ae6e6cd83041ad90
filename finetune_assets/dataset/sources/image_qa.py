"""Image questions: a JSON list beside a folder of images.

An entry is `{"filename": ..., "question_answer": [{"question": ..., "answer": ...}]}`.
This is the layout of the MIRP benchmark (Wolf et al., MICCAI 2025). Answers may be 1 and 0, true and false,
yes and no, or the task's own words. All questions about one image stay in one split, because they share its bytes;
an entry's `group` keeps several images together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson
from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.json_lines import kind
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sources.region_names import region_name
from finetune_assets.errors import SourceError, TaskError
from finetune_assets.task import BinaryAnswer, ImageQaSource

_ALIASES = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}


def read(source: ImageQaSource, region: str, answer: BinaryAnswer) -> Iterator[Example]:
    """Stream the questions of one region; an entry without a readable region is reported in every region.

    Raises:
        SourceError: the JSON file cannot be opened, or is no list.
        TaskError: `region_pattern` is no regular expression with a group.
    """
    path = UPath(source.path)
    pattern = _compiled(source.region_pattern)
    for number, entry in enumerate(_entries(path), 1):
        if type(entry) is not dict:
            detail = f"entry {number} must be an object, found {kind(entry)}"
            yield _problem(path, number, region, Reason.MALFORMED_LINE, detail)
            continue
        found_region = _region(source, pattern, entry)
        if not found_region:
            wanted = source.region_field or f"filename that matches {source.region_pattern!r}"
            yield _problem(path, number, region, Reason.MISSING_FIELD, f"entry {number} has no {wanted}")
        elif found_region == region:
            yield from _questions(source, path, number, entry, region, answer)


def _questions(
    source: ImageQaSource, path: UPath, number: int, entry: dict[str, Any], region: str, answer: BinaryAnswer
) -> Iterator[Example]:
    filename, pairs = entry.get("filename"), entry.get("question_answer")
    if type(filename) is not str or not filename:
        yield _problem(path, number, region, Reason.MISSING_FIELD, f"entry {number} has no filename")
        return
    if type(pairs) is not list or not pairs:
        detail = f"entry {number} ({filename}) has no question_answer"
        yield _problem(path, number, region, Reason.MISSING_FIELD, detail)
        return
    group = entry.get("group")
    for pair in pairs:
        question = pair.get("question") if type(pair) is dict else None
        if type(question) is not str or not question.strip():
            yield _problem(path, number, region, Reason.MISSING_FIELD, f"entry {number} ({filename}) has no question")
            continue
        make = partial(
            Example,
            id=f"{filename}:{hashlib.blake2b(question.encode(), digest_size=4).hexdigest()}",
            region=region,
            source=str(path),
            question=question.strip(),
            group=None if group is None else str(group),
            image=str(path.parent / source.images / filename),
        )
        word = _word(pair.get("answer"), answer)
        if word is None:
            wanted = f"{answer.positive} or {answer.negative}, yes or no, 1 or 0"
            detail = f"entry {number}: answer must be {wanted}, found {kind(pair.get('answer'))}"
            yield make(problem=Reason.UNPARSEABLE_ANSWER, detail=detail)
        else:
            yield make(answer=word, score=float(word == answer.positive))


def _word(found: object, answer: BinaryAnswer) -> str | None:
    """Find the task's word for an answer as the file writes it, or None."""
    text = str(found).strip().casefold()
    words = {answer.positive.strip().casefold(): answer.positive, answer.negative.strip().casefold(): answer.negative}
    # The task's own words come first: its positive word may well be "No".
    if text in words or text not in _ALIASES:
        return words.get(text)
    return answer.positive if _ALIASES[text] else answer.negative


def _problem(path: UPath, number: int, region: str, reason: Reason, detail: str) -> Example:
    return Example(id=f"{path.name}:entry-{number}", region=region, source=str(path), problem=reason, detail=detail)


def _region(source: ImageQaSource, pattern: re.Pattern[str] | None, entry: dict[str, Any]) -> str:
    if pattern is None:
        value = entry.get(source.region_field or "")
        return "" if value is None else region_name(value)
    match = pattern.search(str(entry.get("filename") or ""))
    return region_name(match.group(1) or "") if match else ""


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise TaskError(f"source.region_pattern {pattern!r} is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise TaskError(f"source.region_pattern {pattern!r} needs a group: put the region in parentheses")
    return compiled


def _entries(path: UPath) -> list[Any]:
    try:
        entries = orjson.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise SourceError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}; mend the JSON") from error
    if type(entries) is not list:
        raise SourceError(f"{path}: must be a list of entries, found {kind(entries)}")
    return entries
