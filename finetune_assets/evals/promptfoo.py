"""Tests of promptfoo: a config in YAML or JSON, or a table of tests (CSV, JSON, JSONL, YAML) that goes with a question.

A test is taken over where its assertions compare the answer with one text. Assertions that run code or ask a model,
providers, transforms and hooks are not: what a config says of them is named and left. Nothing in it is run, and of
files only prompts, tests and images in the config's own folder are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from finetune_assets.dataset.json_lines import JsonProblem, kind
from finetune_assets.errors import CaseError, SourceError
from finetune_assets.evals.cases import Case, Cases, Left, text_message
from finetune_assets.evals.files import (
    JSON_LINES,
    MAX_RECORDS,
    YAML,
    Record,
    beside,
    csv_rows,
    json_document,
    json_lines,
    require_readable,
    yaml_document,
)
from finetune_assets.evals.templates import fill, is_template, plain
from finetune_assets.task.yaml_file import dotted

KEYS = {"prompts", "tests"}
"""A file with these is a config."""
_EQUAL = ("equals",)
_LOOSER = {
    "contains": "holds the text",
    "icontains": "holds the text in any case",
    "starts-with": "begins with the text",
    "similar": "is alike by an embedding",
    "levenshtein": "is alike by its letters",
    "rouge-n": "is alike by its words",
    "bleu": "is alike by its words",
    "meteor": "is alike by its words",
    "gleu": "is alike by its words",
}
"""Assertions that a text passes also where it is not the same."""
_JUDGES_NOTHING = ("cost", "latency", "perplexity", "perplexity-score", "is-json", "is-refusal", "guardrails")
"""Of the answer's text, or of which answer is right."""
_CODE = ("javascript", "python", "ruby", "webhook", "fn", "eval")
_CSV_TYPE = re.compile(r"(not-)?([a-z][a-z0-9-]*)(?:\((\d+(?:\.\d+)?)\))?:(.*)", re.DOTALL)
_LEFT_OUT = ("options", "provider", "providers", "assertScoringFunction", "providerOutput", "threshold")
"""Keys of a test that say more than its question and its answer; of these only harmless ones are passed over."""
_HARMLESS = {"provider", "providers", "threshold", "providerOutput"}
_IMAGE = re.compile(r"(?i)file://.+\.(png|jpe?g|webp|bmp|gif|tiff?)")
_AS_DATA = re.compile(r"data:image/[\w.+-]+;base64,\s*(?=\{\{)")
_CONFIG_LEFT = {
    "providers": "models are named by the task",
    "targets": "models are named by the task",
    "extensions": "hooks run code, and none is run",
    "nunjucksFilters": "filters run code, and none is run",
    "derivedMetrics": "a task has its own metrics",
    "redteam": "attacks are no labelled questions",
}


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says."""

    path: Path
    prompt: Any
    """A text, or a list of messages."""
    shared: Mapping[str, Any]
    """`defaultTest`."""
    tests: list[Record]


def is_config(value: Any) -> bool:
    """Whether a value is a promptfoo config."""
    return isinstance(value, dict) and value.keys() >= KEYS


def read(path: Path, prompt: str | None, question: str | None) -> Cases:
    """Take the labelled questions out of a config or a table of tests.

    Args:
        path: The file.
        prompt: The label or the number, from 1, of the prompt that is taken where there are several.
        question: A template that asks, such as `{{text}}`, in place of the config's prompts; a table needs it.

    Raises:
        SourceError: it cannot be read, or does not say what is asked.
    """
    cases = Cases()
    config = _config(path, prompt, question, cases)
    for test in config.tests:
        try:
            cases.taken.append(_case(config, test, cases))
        except CaseError as error:
            cases.left.append(Left(test.where, str(error)))
    return cases


def _config(path: Path, prompt: str | None, question: str | None, cases: Cases) -> Config:
    if path.suffix.lower() == ".csv" or path.suffix.lower() in JSON_LINES:
        if question is None:
            raise SourceError(f"{path}: is a table of tests; say what is asked by --question, such as '{{{{text}}}}'")
        return Config(path, question, {}, _bounded(path, _table(path)))
    lines, value = _document(path)
    if isinstance(value, list):
        value = {"prompts": question, "tests": value}
        lines = {("tests", *key): line for key, line in lines.items()}
    if not is_config(value):
        raise SourceError(f"{path}: is no promptfoo config: needs {' and '.join(sorted(KEYS))}")
    if value.get("scenarios"):
        raise SourceError(f"{path}: `scenarios` are not taken over; write them out as tests")
    for key in _CONFIG_LEFT.keys() & value.keys():
        cases.remark(f"`{key}` is not taken over: {_CONFIG_LEFT[key]}")
    shared = value.get("defaultTest") or {}
    if not isinstance(shared, dict):
        raise SourceError(f"{path}: `defaultTest` must be an object, found {kind(shared)}; write it into the config")
    asked = question if question is not None else _prompt(path, value["prompts"], prompt)
    return Config(path, asked, shared, _bounded(path, _tests(path, value["tests"], lines)))


def _document(path: Path) -> tuple[Mapping[Any, int], Any]:
    """What a file says, and the lines of its keys where they are known."""
    if path.suffix.lower() in YAML:
        found = yaml_document(path)
        return found.lines, found.value
    return {}, json_document(path)


def _bounded(path: Path, records: Iterator[Record]) -> list[Record]:
    found = []
    for record in records:
        if len(found) == MAX_RECORDS:
            raise SourceError(f"{path}: has over {MAX_RECORDS:,} tests; cut it")
        found.append(record)
    return found


def _prompt(path: Path, prompts: Any, wanted: str | None) -> Any:
    """The one prompt of a config, as a text or messages."""
    entries = prompts if isinstance(prompts, list) else [prompts]
    found = [_labelled(path, entry) for entry in entries]
    chosen = [text for number, (label, text) in enumerate(found, 1) if wanted in (None, label, str(number))]
    if len(chosen) != 1:
        names = ", ".join(repr(label) if label else str(number) for number, (label, _) in enumerate(found, 1)) or "none"
        raise SourceError(f"{path}: a task has one prompt; name one by --prompt: {names}")
    return _messages_of(path, chosen[0])


def _labelled(path: Path, entry: Any) -> tuple[str | None, str]:
    label = None
    if isinstance(entry, dict):
        label, entry = entry.get("label"), entry.get("raw", entry.get("id"))
    if not isinstance(entry, str):
        raise SourceError(f"{path}: a prompt must be a text, found {kind(entry)}")
    if entry.startswith("file://") or re.fullmatch(r"[\w./-]+\.(txt|json|yaml|yml|md|js|ts|py|sh)", entry):
        file = beside(entry, path.parent)
        if file.suffix.lower() not in (".txt", ".json", ".md", *YAML):
            raise SourceError(f"{path}: the prompt {entry!r} is code, and none is run; write the prompt itself")
        require_readable(file)
        try:
            entry = file.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SourceError(f"{file}: is not UTF-8: {error}") from error
    return label, entry


def _messages_of(path: Path, text: str) -> Any:
    """A prompt that is written as messages, in JSON or YAML, else the text itself."""
    begins = text.strip()
    if begins.startswith("- role:"):
        try:
            return yaml.safe_load(begins)
        except yaml.YAMLError as error:
            raise SourceError(f"{path}: a prompt is no YAML: {error}") from error
    if not begins.startswith("["):
        return text
    try:
        found = orjson.loads(begins)
    except orjson.JSONDecodeError:
        return text
    return found if isinstance(found, list) and all(isinstance(one, dict) and "role" in one for one in found) else text


def _tests(
    path: Path, tests: Any, lines: Mapping[Any, int], key: tuple[str | int, ...] = ("tests",)
) -> Iterator[Record]:
    if isinstance(tests, str):
        yield from _table(_test_file(path, tests))
        return
    if not isinstance(tests, list):
        raise SourceError(f"{path}: `tests` must be a list or the name of a file, found {kind(tests)}")
    for number, test in enumerate(tests):
        name = dotted((*key, number))
        if isinstance(test, str):
            yield from _table(_test_file(path, test))
        else:
            line = lines.get((*key, number))
            yield Record(f"{path.name}:{line}" if line else f"{path.name} {name}", test)


def _test_file(path: Path, named: str) -> Path:
    file = beside(named, path.parent)
    if file.suffix.lower() not in (".csv", ".json", *JSON_LINES, *YAML):
        raise SourceError(f"{path}: the tests {named!r} are not read: no code is run, and no other kind of table")
    return file


def _table(path: Path) -> Iterator[Record]:
    """The tests of a file of their own."""
    if path.suffix.lower() == ".csv":
        for record in csv_rows(path):
            yield record if isinstance(record.value, JsonProblem) else Record(record.where, _of_row(record.value))
    elif path.suffix.lower() in JSON_LINES:
        yield from json_lines(path)
    else:
        lines, value = _document(path)
        yield from _tests(path, value, lines, ())


def _of_row(row: Mapping[str, str]) -> dict[str, Any]:
    """A test as a row of a table says it: `__expected` and the like, and a column for each variable."""
    said = [value for name, value in row.items() if name.startswith("__expected") and value.strip()]
    other = {name: value for name, value in row.items() if name in ("__prefix", "__suffix") and value}
    return {
        "vars": {name: value for name, value in row.items() if not name.startswith("__")},
        "assert": [_of_cell(value) for value in said],
        **({"options": other} if other else {}),
    }


def _of_cell(text: str) -> dict[str, Any]:
    """An assertion as a cell says it: `icontains: yes`, `similar(0.8): yes`, or the text that an answer equals."""
    known = (*_EQUAL, *_LOOSER, *_JUDGES_NOTHING, *_CODE)
    match = _CSV_TYPE.fullmatch(text)
    if text.startswith("file://"):
        return {"type": "javascript"}
    if match and (match[2] in known or match[2] in ("grade", "llm-rubric") or match[1]):
        return {"type": f"{match[1] or ''}{match[2]}", "value": match[4].strip() if match[2] != "equals" else match[4]}
    return {"type": "equals", "value": text}


def _case(config: Config, test: Record, cases: Cases) -> Case:
    value = test.value
    if isinstance(value, JsonProblem):
        raise CaseError(value.message)
    if not isinstance(value, dict):
        raise CaseError(f"a test must be an object, found {kind(value)}")
    for source in (value, config.shared):
        _require_plain(source)
    variables = _variables(config, value)
    answer = _answer([*_asserts(config.shared), *_asserts(value)], variables, cases)
    return Case(test.where, _asked(config, variables), answer)


def _require_plain(test: Mapping[str, Any]) -> None:
    """Refuse what changes the question or the answer on its way."""
    for key in _LEFT_OUT:
        said = test.get(key)
        changed = [
            name for name in ("prefix", "suffix", "transform", "transformVars", "postprocess") if _in(said, name)
        ]
        if said and key not in _HARMLESS and (key != "options" or changed):
            raise CaseError(f"its {key} {'`' + changed[0] + '` ' if changed else ''}would change it on its way")


def _in(said: Any, name: str) -> bool:
    return isinstance(said, dict) and bool(said.get(name))


def _variables(config: Config, test: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a test's variables; a file that is an image is the path to it."""
    found: dict[str, Any] = {}
    for source in (config.shared, test):
        said = source.get("vars") or {}
        if not isinstance(said, dict):
            raise CaseError(f"its vars must be an object, found {kind(said)}; files of variables are not read")
        found |= said
    for name, value in found.items():
        if isinstance(value, str) and value.startswith(("file://", "package:")):
            found[name] = _image(config, name, value)
        elif isinstance(value, str) and is_template(value):
            raise CaseError(f"the value of {name} is itself a template")
    return found


@dataclass(frozen=True, slots=True)
class _Picture:
    path: str


def _image(config: Config, name: str, value: str) -> _Picture:
    if not _IMAGE.fullmatch(value):
        raise CaseError(f"{name} is {value!r}: of files only images are read, and no code is run")
    try:
        return _Picture(str(beside(value, config.path.parent)))
    except SourceError as error:
        raise CaseError(str(error)) from error


def _asserts(test: Mapping[str, Any]) -> list[Any]:
    said = test.get("assert") or []
    if not isinstance(said, list):
        raise CaseError(f"its assert must be a list, found {kind(said)}")
    return said


def _answer(asserts: list[Any], variables: Mapping[str, Any], cases: Cases) -> str:
    """The one text that the assertions compare the answer with."""
    found: list[str] = []
    others: list[str] = []
    for one in asserts:
        type_ = str(one.get("type")) if isinstance(one, dict) else kind(one)
        if type_ in _EQUAL or type_ in _LOOSER:
            if one.get("transform"):
                raise CaseError(f"its assertion {type_} has a transform, and no code is run")
            text = fill(plain(one.get("value"), f"the value of {type_}"), variables).strip()
            found += [text] if text not in found else []
            if type_ in _LOOSER:
                cases.remark(f"`{type_}` is passed by an answer that {_LOOSER[type_]}; a task reads one answer")
        elif type_ in _JUDGES_NOTHING:
            cases.remark(f"`{type_}` is not taken over: it does not say which answer is right")
        else:
            others.append(type_)
    if len(found) == 1 and found[0] and not others:
        return found[0]
    if others:
        why = "runs code, and none is run" if others[0] in _CODE else "does not compare with one text"
        raise CaseError(f"its assertion {others[0]} {why}")
    raise CaseError(f"its assertions name {len(found)} different answers, and a task has one")


def _asked(config: Config, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    if isinstance(config.prompt, str):
        return [text_message("user", fill(config.prompt, _texts(variables)))]
    return [_message(message, variables) for message in config.prompt]


def _texts(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if not isinstance(value, _Picture)}


def _message(message: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    role = {"developer": "system"}.get(str(message.get("role")), str(message.get("role")))
    content = message.get("content")
    if isinstance(content, str):
        return text_message(role, fill(content, _texts(variables)))
    if not isinstance(content, list):
        raise CaseError(f"the prompt has a message of {kind(content)}")
    return {"role": role, "content": [_part(part, variables) for part in content]}


def _part(part: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    said = part if isinstance(part, dict) else {}
    if said.get("type") in ("text", "input_text") and isinstance(said.get("text"), str):
        return {"type": "text", "text": fill(said["text"], _texts(variables))}
    image = said.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if said.get("type") in ("image_url", "input_image") and isinstance(url, str):
        return {"type": "image_url", "image_url": {"url": _address(url, variables)}}
    raise CaseError(f"the prompt has a part of the type {said.get('type')!r}; texts and images are taken")


def _address(template: str, variables: Mapping[str, Any]) -> str:
    """Where an image is: a file beside the config, an https URL, or the image itself."""
    name = re.fullmatch(r"\{\{\s*(\w+)\s*\}\}", _AS_DATA.sub("", template))
    if name and isinstance(value := variables.get(name[1]), _Picture):
        return value.path
    url = fill(template, _texts(variables))
    if not url.lower().startswith(("https://", "data:image/")):
        raise CaseError("shows an image that is neither a file beside the config, an https URL nor a data URL")
    return url
