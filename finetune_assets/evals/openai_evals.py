"""Exports of OpenAI's Evals: what its API returned, data files, and samples of the repository `openai/evals`.

Known are the objects `eval` (its graders say what the right answer is), `eval.run` (its template is the question) and
`eval.run.output_item` (an item with what was asked), alone, in lists or in an object that keeps several of them; lines
`{"item": {...}}` of a data file; and lines `{"input": ..., "ideal": ...}`. Shapes as in the SDK's `types/evals`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_assets.dataset.json_lines import JsonProblem, kind
from finetune_assets.errors import CaseError, SourceError
from finetune_assets.evals.cases import Case, Cases, Left, text_message
from finetune_assets.evals.files import JSON_LINES, MAX_RECORDS, Record, json_document, json_lines
from finetune_assets.evals.templates import fill, names_in, plain, value_of

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TEXTS = ("input_text", "output_text", "text")
_OUTPUTS = ("sample.output_text", "sample.output_json")
_HOLDS = {"like": "holds", "ilike": "holds, in any case,"}
_MAX_DEPTH = 5
"""Lists and objects around the objects that are looked for."""


@dataclass(slots=True)
class Export:
    """What the files hold."""

    evals: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    items: list[Record] = field(default_factory=list)
    """Entries with a data source's item: output items, and rows of data."""
    samples: list[Record] = field(default_factory=list)
    """Of the repository `openai/evals`."""
    left: list[Left] = field(default_factory=list)


def read(paths: Iterable[Path], question: str | None, answer: str | None, run: str | None) -> Cases:
    """Take the labelled questions out of an export.

    Args:
        paths: Its files, JSON or JSON Lines.
        question: A template that asks, such as `{{item.text}}`, in place of the run's own.
        answer: A template of the right answer, such as `{{item.label}}`, in place of the graders'.
        run: The id of the run whose template asks, where there are several.

    Raises:
        SourceError: a file cannot be read, or the files do not say what is asked or what is right.
    """
    export = Export()
    for path in paths:
        _gather(export, path)
    cases = Cases(left=export.left)
    for sample in export.samples:
        _take(cases, sample, _of_sample)
    items = export.items or _of_runs(export)
    if items:
        asked = _question(export, question, run)
        right = answer or _reference(export, cases)
        cases.labels = _labels(export, right)
        for item in _once(_of_run(items, run), cases):
            _take(cases, item, lambda value: (_messages(asked, value), _right(right, value, cases.labels)))
    return cases


def _right(template: str, value: Mapping[str, Any], labels: list[str] | None) -> str:
    answer = fill(template, _values(value))
    if labels is not None and answer not in labels:
        raise CaseError(f"its answer {answer!r} is none of those that the schema allows: {', '.join(labels)}")
    return answer


def _gather(export: Export, path: Path) -> None:
    if path.suffix.lower() in JSON_LINES:
        for record in json_lines(path):
            if isinstance(record.value, JsonProblem):
                export.left.append(Left(record.where, record.value.message))
            elif not _sorted_in(export, record):
                export.left.append(Left(record.where, _unknown(record.value)))
        return
    found = json_document(path)
    for record in _objects(Record(path.name, found), 0):
        _sorted_in(export, record)
    if len(export.items) + len(export.samples) > MAX_RECORDS:
        raise SourceError(f"{path}: holds over {MAX_RECORDS:,} items; cut it")


def _objects(record: Record, depth: int) -> Iterator[Record]:
    """Find what is known in lists and objects."""
    value = record.value
    if isinstance(value, dict) and _is_known(value):
        yield record
    elif depth < _MAX_DEPTH and isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            name = f"[{key}]" if isinstance(key, int) else f".{key}"
            yield from _objects(Record(f"{record.where}{'' if depth else ' '}{name}", entry), depth + 1)


def _is_known(value: Mapping[str, Any]) -> bool:
    named = value.get("object") in ("eval", "eval.run", "eval.run.output_item")
    return named or isinstance(value.get("item"), dict) or {"input", "ideal"} <= value.keys()


def _sorted_in(export: Export, record: Record) -> bool:
    value = record.value
    match value.get("object"):
        case "eval":
            export.evals.append(value)
        case "eval.run":
            export.runs.append(value)
        case "eval.run.output_item":
            export.items.append(record)
        case _ if isinstance(value.get("item"), dict):
            export.items.append(record)
        case _ if {"input", "ideal"} <= value.keys():
            export.samples.append(record)
        case _:
            return False
    return True


def _unknown(value: Mapping[str, Any]) -> str:
    keys = ", ".join(map(str, list(value)[:8])) or "none"
    return (
        f"is nothing of an Evals export: needs object, item, or input and ideal; its keys are {keys}. A plain table is "
        "taken by `finetune-assets init`"
    )


def _of_runs(export: Export) -> list[Record]:
    """The rows that runs hold themselves, where the files have no other."""
    found: list[Record] = []
    for run in export.runs:
        source = _dict(_dict(run.get("data_source")).get("source"))
        content = source.get("content") if source.get("type") == "file_content" else None
        rows = content if isinstance(content, list) else []
        found += [Record(f"{run.get('id')}, content[{n}]", row) for n, row in enumerate(rows) if isinstance(row, dict)]
    return found


def _question(export: Export, question: str | None, run: str | None) -> Any:
    """The template that asks: a text, a list of messages, or None where output items say what was asked."""
    if question is not None:
        return [text_message("user", question)]
    if run is not None and all(one.get("id") != run for one in export.runs):
        known = ", ".join(str(one.get("id")) for one in export.runs) or "none"
        raise SourceError(f"there is no run {run!r} in these files; there are {known}")
    asked: list[Any] = []
    for one in export.runs:
        if run in (None, one.get("id")) and (template := _template(one)) not in (None, *asked):
            asked.append(template)
    if len(asked) > 1:
        ids = ", ".join(str(one.get("id")) for one in export.runs if _template(one) is not None)
        raise SourceError(f"the runs {ids} ask in different words, and a task has one prompt: name one by --run")
    if not asked and any(record.value.get("object") != "eval.run.output_item" for record in export.items):
        raise SourceError(
            "the files do not say what is asked about an item: add the run's JSON (`evals.runs.retrieve`), or say it "
            "by --question, such as --question '{{item.text}}'"
        )
    return asked[0] if asked else None


def _template(run: Mapping[str, Any]) -> Any:
    asked = _dict(_dict(run.get("data_source")).get("input_messages"))
    return asked.get("template") if asked.get("type") == "template" else asked.get("item_reference")


def _reference(export: Export, cases: Cases) -> str:
    """The template of the right answer, as the graders compare with it."""
    found: list[str] = []
    for grader in [grader for one in export.evals for grader in one.get("testing_criteria") or () if _dict(grader)]:
        name = f"the grader {grader.get('name')!r} ({grader.get('type')})"
        try:
            reference, remark = _compared(grader)
        except CaseError as error:
            cases.remark(f"{name} is not taken over: {error}")
            continue
        if reference not in found:
            found.append(reference)
        if remark:
            cases.remark(f"{name} {remark}")
    if len(found) == 1:
        return found[0]
    problem = f"graders compare with {', '.join(found)}" if found else "no grader in the files says what is right"
    detail = f" ({'; '.join(cases.remarks)})" if cases.remarks and not found else ""
    raise SourceError(f"{problem}{detail}: say it by --answer, such as --answer '{{{{item.label}}}}'")


def _compared(grader: Mapping[str, Any]) -> tuple[str, str]:
    """What a grader compares the whole answer with, and what a task does otherwise.

    Raises:
        CaseError: it does not compare it with a text.
    """
    remark = _judgement(grader)
    output = grader.get("input")
    reference = grader.get("reference")
    if not isinstance(output, str) or names_in(output) not in ([name] for name in _OUTPUTS):
        raise CaseError(f"it looks at {output!r} and not at the answer, {{{{sample.output_text}}}}")
    if not isinstance(reference, str) or any(name.startswith("sample") for name in names_in(reference)):
        raise CaseError("its reference is no text of the item")
    return reference, remark


def _judgement(grader: Mapping[str, Any]) -> str:
    """What a task does otherwise than a grader; "" for nothing.

    Raises:
        CaseError: it does not compare an answer with a text.
    """
    match grader.get("type"), grader.get("operation"):
        case "string_check", "eq":
            return ""
        case "string_check", "like" | "ilike" as operation:
            return f"is passed by an answer that {_HOLDS[operation]} the text; a task reads one answer"
        case "string_check", operation:
            raise CaseError(f"its operation {operation!r} does not say what an answer is")
        case "text_similarity", _:
            return f"compares by {grader.get('evaluation_metric')}; a task compares by its own metric"
        case "label_model" | "score_model", _:
            raise CaseError("a model judges the answer, and a task needs a label")
        case "python", _:
            raise CaseError("code judges the answer, and none is run")
        case other, _:
            raise CaseError(f"graders of the type {other!r} are not known")


def _labels(export: Export, answer: str) -> list[str] | None:
    """The answers that the schema of the items allows, where it lists them."""
    names = names_in(answer)
    if len(names) != 1 or answer.strip() != answer or not answer.startswith("{{") or len(export.evals) != 1:
        return None
    schema = _dict(_dict(export.evals[0].get("data_source_config")).get("item_schema")) or _dict(
        _dict(_dict(_dict(export.evals[0].get("data_source_config")).get("schema")).get("properties")).get("item")
    )
    allowed = _dict(_dict(schema.get("properties")).get(names[0].removeprefix("item."))).get("enum")
    return allowed if isinstance(allowed, list) and all(isinstance(one, str) for one in allowed) else None


def _of_run(items: list[Record], run: str | None) -> Iterator[Record]:
    return (item for item in items if run is None or item.value.get("run_id") in (None, run))


def _once(items: Iterable[Record], cases: Cases) -> Iterator[Record]:
    """Each item of the data once, though several runs asked it."""
    seen: set[tuple[Any, Any]] = set()
    for item in items:
        known = item.value.get("eval_id"), item.value.get("datasource_item_id")
        if None in known or known not in seen:
            seen.add(known)
            yield item
        else:
            cases.remark("items that several runs asked are taken once")


def _take(cases: Cases, record: Record, made: Any) -> None:
    try:
        messages, answer = made(record.value)
        if not answer.strip():
            raise CaseError("its right answer is empty")
        cases.taken.append(Case(record.where, messages, answer.strip()))
    except CaseError as error:
        cases.left.append(Left(record.where, str(error)))


def _values(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"item": value.get("datasource_item") if "datasource_item" in value else value.get("item")}


def _messages(asked: Any, value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is asked about an item."""
    values = _values(value)
    if asked is None:
        return [_message(message, None) for message in _list(_dict(value.get("sample")).get("input"), "sample.input")]
    if isinstance(asked, str):
        return [_message(message, None) for message in _list(value_of(asked, values), asked)]
    return [_message(message, values) for message in _list(asked, "template")]


def _message(message: Any, values: Mapping[str, Any] | None) -> dict[str, Any]:
    role = _ROLES.get(str(_dict(message).get("role")))
    if role is None:
        raise CaseError(f"has a message of {_dict(message).get('role')!r}; known are {', '.join(_ROLES)}")
    content = message.get("content")
    parts = [_part(part, values) for part in (content if isinstance(content, list) else [content])]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return text_message(role, parts[0]["text"])
    return {"role": role, "content": parts}


def _part(part: Any, values: Mapping[str, Any] | None) -> dict[str, Any]:
    """A part of a message; `values` fill its templates, None: what it says is what was asked."""

    def filled(text: str) -> str:
        return text if values is None else fill(text, values)

    if isinstance(part, str):
        return {"type": "text", "text": filled(part)}
    match _dict(part).get("type"):
        case "input_image" | "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            return {"type": "image_url", "image_url": {"url": _address(filled(url) if isinstance(url, str) else url)}}
        case said if said in _TEXTS and isinstance(part.get("text"), str):
            return {"type": "text", "text": filled(part["text"])}
        case other:
            raise CaseError(f"has a part of the type {other!r}; texts and images are taken")


def _address(url: Any) -> str:
    if isinstance(url, str) and url.lower().startswith(("https://", "data:image/")):
        return url
    raise CaseError("shows an image that is neither an https URL nor a data URL")


def _of_sample(value: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """A sample of the repository: `input` is a text or messages, `ideal` a text or several of which each is right."""
    asked, ideal = value["input"], value["ideal"]
    messages = [text_message("user", asked)] if isinstance(asked, str) else _list(asked, "input")
    right = ideal if isinstance(ideal, list) else [ideal]
    if len(right) != 1:
        raise CaseError(f"has {len(right)} right answers, and a task has one")
    return [_message(message, None) for message in messages], plain(right[0], "ideal")


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise CaseError(f"{name} must be a list of messages, found {kind(value)}")
    return value


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
