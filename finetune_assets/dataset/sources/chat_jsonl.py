"""Files in the chat format that providers train on: one question and its answer a line.

The system message stays the line's own; the answer is read from the assistant's message as the task's kind of answer
asks, so that `Price is $226.95` is the number 226.95, and a call is read from `tool_calls`. A line with several
questions has no one answer to compare a model with, so it is set aside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from finetune_assets.dataset.belonging.named import Named, published, split_of_file
from finetune_assets.dataset.example import Example, Picture, of_several
from finetune_assets.dataset.identity import region_matched, region_name
from finetune_assets.dataset.impostors import require_data
from finetune_assets.dataset.json_lines import JsonProblem, kind, lines
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.reading import opening, table_files
from finetune_assets.dataset.reading.cells import text
from finetune_assets.dataset.sources.origin import Origin, UnitsSaid, key
from finetune_assets.dataset.sources.pictures import named_folders, picture, written_name
from finetune_assets.dataset.sources.places import locate_all
from finetune_assets.errors import ImageError
from finetune_assets.task.answers import Answer, CallAnswer
from finetune_assets.task.several_images import MAX_IMAGES
from finetune_assets.task.sources import ChatJsonlSource


def read(source: ChatJsonlSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the lines of one region; a line without a readable region is reported in every region.

    Raises:
        SourceError: a file cannot be opened.
    """
    groups = Named("source.group_field", source.group_field, source.group_pattern)
    splits = Named("source.split_field", source.split_field)
    for record, line in _lines(source, region):
        if isinstance(line, JsonProblem):
            yield record.problem(Reason.MALFORMED_LINE, line.message)
            continue
        chat = _chat(line, calls=isinstance(answer, CallAnswer))
        found_region = _region(source, line, "" if isinstance(chat, str) else chat.question)
        if (origin := record.of(found_region)) is None:
            continue
        if isinstance(chat, str):
            yield origin.problem(Reason.MALFORMED_LINE, f"{origin.words} {chat}")
        elif not found_region:
            yield origin.missing(source.region_field or f"question that matches {source.region_from_question!r}")
        else:
            group, split = _named(line, source.group_field, groups), _named(line, source.split_field, splits)
            if source.group_field and not group:
                lacks = f"has no {source.group_field}, so nobody knows which lines it belongs to"
                yield origin.problem(Reason.MISSING_FIELD, f"{origin.words} {lacks}")
            elif source.split_field and not split:
                yield origin.missing(source.split_field)
            else:
                was = published(split, source.splits, "source.split_field")
                yield _example(source, origin, chat, answer, group=group or None, published=was)
    groups.require(source.path)
    splits.require(source.path)


def regions(source: ChatJsonlSource) -> Iterator[str]:
    """Stream the region of each line that has one."""
    for _, line in _lines(source, ""):
        if not isinstance(line, JsonProblem):
            chat = _chat(line, calls=True)
            yield _region(source, line, "" if isinstance(chat, str) else chat.question)


def _lines(source: ChatJsonlSource, region: str) -> Iterator[tuple[Origin, dict[str, Any] | JsonProblem]]:
    located, said = locate_all(source.path, source.folder), UnitsSaid()
    for path in (file for place in located for file in table_files(place, (".jsonl", ".ndjson"))):
        split = split_of_file(path, source.split_from_path, source.splits)
        with opening(path):
            require_data(path)
            for number, line in lines(path):
                if not isinstance(line, JsonProblem) or line.code != "blank_line":
                    yield Origin(region, path, number, published=split, said=said), line


@dataclass(frozen=True, slots=True)
class _Chat:
    system: str | None
    question: str
    shown: list[tuple[str, str]]
    """The address of each image, and what is said before it where there are several."""
    answer: str


def _chat(line: dict[str, Any], *, calls: bool) -> _Chat | str:
    """Take a line apart, or say what is wrong with it; `calls` takes what the assistant calls for its answer."""
    messages = line.get("messages")
    if type(messages) is not list or not all(type(message) is dict for message in messages):
        has = ", ".join(map(str, list(line)[:10]))
        return f"needs messages, a list of objects, found {kind(messages)}; its keys are {has}{_other_format(line)}"
    by_role: dict[str, list[object]] = {}
    for message in messages:
        role = {"developer": "system"}.get(str(message.get("role")), str(message.get("role")))
        by_role.setdefault(role, []).append((_called(message) if calls else None) or message.get("content"))
    if unknown := by_role.keys() - {"system", "user", "assistant"}:
        return f"has a {min(unknown)} message; only system, user and assistant make a question and its answer"
    for role, at_least in (("system", 0), ("user", 1), ("assistant", 1)):
        if not at_least <= (n_found := len(by_role.get(role, []))) <= 1:
            return f"has {n_found} {role} messages; a task asks one question and reads one answer"
    if messages[-1].get("role") != "assistant":
        return f"ends with the {messages[-1].get('role')} message; the assistant's answer must be the last"
    if messages[-1].get("weight") == 0:
        return "has an answer of weight 0, which is not to be learned"
    texts = {role: _text(contents[0]) for role, contents in by_role.items()}
    for role in ("user", "assistant"):
        if not texts[role]:
            return f"has no text in its {role} message"
    return _with_images(by_role["user"][0], _Chat(texts.get("system"), texts["user"], [], texts["assistant"]))


def _other_format(line: dict[str, Any]) -> str:
    """Say what to do about a line of another format."""
    for asked, answered in (("prompt", "completion"), ("instruction", "output"), ("question", "answer")):
        if asked in line and answered in line:
            return f'; read such lines by `kind: table` with question: "{{{asked}}}" and answer: "{{{answered}}}"'
    if type(line.get("conversations")) is list:
        return "; write `conversations` as messages with `role` (user, assistant) and `content`"
    return ""


def _with_images(content: object, chat: _Chat) -> _Chat | str:
    """Add the images of the user's message; with several each has the text that leads to it."""
    question, shown = _shown(content)
    if len(shown) > MAX_IMAGES:
        return f"shows {len(shown)} images; at most {MAX_IMAGES} are taken"
    if len(shown) < 2:
        return replace(chat, shown=[(url, "") for url, _ in shown])
    if not question:
        return "has no question: no text before its first image or after its last"
    return replace(chat, question=question, shown=shown)


def _called(message: dict[str, Any]) -> str | None:
    """The calls of a message as JSON; None where it makes none, or says something beside them."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not calls or _text(message.get("content")):
        return None
    return json.dumps(calls, ensure_ascii=False)


def _text(content: object) -> str:
    """Join the text of a message, which is a string or a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if type(part) is dict and part.get("type") == "text"]
        return "\n".join(part for part in parts if isinstance(part, str)).strip()
    return content.strip() if isinstance(content, str) else ""


def _shown(content: object) -> tuple[str, list[tuple[str, str]]]:
    """Take a message apart into its question and its images, each with the text that leads to it.

    What follows the last image is the question; where nothing does, it is what precedes the first.
    """
    shown: list[tuple[str, str]] = []
    said: list[str] = []
    for part in content if isinstance(content, list) else []:
        image = part.get("image_url") if type(part) is dict else None
        url = image.get("url") if type(image) is dict else image
        if isinstance(url, str):
            shown.append((url, "\n".join(said).strip()))
            said = []
        elif type(part) is dict and isinstance(part.get("text"), str):
            said.append(part["text"])
    if not (question := "\n".join(said).strip()) and shown:
        (url, question), *others = shown
        shown = [(url, ""), *others]
    return question, shown


def _region(source: ChatJsonlSource, line: dict[str, Any], question: str) -> str:
    if source.region is not None:
        return source.region
    if source.region_field is not None:
        return region_name(_field(line, source.region_field))
    return region_matched(source.region_from_question or "()", question)


def _field(line: dict[str, Any], name: str) -> object:
    """Find a key in the line or in its metadata."""
    metadata = line.get("metadata")
    return line[name] if name in line else metadata.get(name) if type(metadata) is dict else None


def _named(line: dict[str, Any], field: str | None, named: Named) -> str:
    """Name what a line holds under a key that the task names, "" where it holds nothing."""
    if field is None:
        return ""
    metadata = line.get("metadata")
    return named.name(text(_field(line, field)), [*line, *(metadata if type(metadata) is dict else ())])


def _example(source: ChatJsonlSource, origin: Origin, chat: _Chat, answer: Answer, **belongs: object) -> Example:
    names = [written_name(url) for url, _ in chat.shown]
    labels = [label for _, label in chat.shown if label]
    fields: dict[str, Any] = {
        "id": "" if "" in names else f"{origin.region}/{key(chat.system, chat.question, *(names or [None]), *labels)}",
        "system": chat.system,
        "question": chat.question,
        **belongs,
    }
    try:
        roots = named_folders(None, source.image_root)
        shown = [Picture(picture(url, origin.path.parent, roots), label or None) for url, label in chat.shown]
    except ImageError as error:
        return origin.make(problem=error.reason, detail=f"{origin.words}: {error.detail}", **fields)
    if shown:
        fields |= of_several(shown) if len(shown) > 1 else {"image": shown[0].image}
    return origin.example(chat.answer, answer, **fields)
