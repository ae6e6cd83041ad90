"""Makes a task of the cases of somebody's evaluation: its YAML, and a chat file with a line for each case.

What is taken is what the task can read: each line is read back as the stages will, and a case whose answer they could
not read is named with the rest that is left.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from upath import UPath

from finetune_assets.dataset import sources
from finetune_assets.errors import SourceError, TaskError
from finetune_assets.evals import openai_evals, promptfoo
from finetune_assets.evals.cases import Case, Cases, Left
from finetune_assets.evals.files import YAML, json_document, yaml_document
from finetune_assets.onboarding.answers import answer_of
from finetune_assets.onboarding.conversation import written
from finetune_assets.onboarding.preview import preview, seed
from finetune_assets.results.files import write_atomically
from finetune_assets.task import Task
from finetune_assets.task.places import FILE, OWN

DATA = "cases.jsonl"
"""The chat file in the task's folder."""
_LONGEST = 400
"""Characters of a reason."""
_SAMPLING = {"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15, "seed": 42}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a person has said beside the files."""

    task: str
    question: str | None = None
    answer: str | None = None
    kind: str | None = None
    """Of the answer: binary, choice, number or text."""
    prompt: str | None = None
    run: str | None = None
    provider: str = "local"
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an evaluation."""

    task: str
    path: Path
    """The task's YAML."""
    n: int
    """Cases that the task has."""
    answer: str
    """Their kind."""
    left: tuple[Left, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"path": str(self.path)}


def import_evals(paths: Sequence[Path], stated: Stated) -> Imported:
    """Write a task out of files of another tool.

    Args:
        paths: An Evals export in its parts, or one promptfoo config or table of tests.
        stated: What is said of it, and the new task's name.

    Raises:
        SourceError: a file cannot be read, or nothing of it can be taken over.
        TaskError: there is a task of this name, or the cases are none.
    """
    folder = OWN / stated.task
    if (folder / FILE).exists():
        raise TaskError(f"{folder / FILE} is there already; take another name by --into, or remove it")
    cases = _cases(paths, stated)
    if not cases.taken:
        raise SourceError(f"nothing of {', '.join(map(str, paths))} can be taken over{_first(cases.left)}")
    attributes = _attributes(cases, stated, folder, paths[0].parent)
    kept, left = _readable(cases.taken, attributes, folder)
    if not kept:
        raise SourceError(f"no answer can be read as {attributes['answer']['kind']}{_first(left)}; say it by --kind")
    _write(folder, kept)
    attributes["sampling"]["seed"] = seed(task := _task(attributes, folder), preview(task))
    write_atomically(UPath(folder / FILE), written(attributes).encode())
    remarks = [*cases.remarks, *_of_labels(cases, attributes["answer"])]
    kind = attributes["answer"]["kind"]
    ordered = sorted([*cases.left, *left], key=lambda one: _in_order(one.where))
    told = tuple(Left(_plainly(one.where), _plainly(one.reason)) for one in ordered)
    return Imported(stated.task, folder / FILE, len(kept), kind, told, tuple(map(_plainly, remarks)))


def _plainly(words: str) -> str:
    """Words that quote a stranger's file as a terminal may show them."""
    return "".join(char if char.isprintable() else "�" for char in words[:_LONGEST])


def _in_order(where: str) -> list[tuple[int, str]]:
    """Put line 9 before line 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", where)]


def _cases(paths: Sequence[Path], stated: Stated) -> Cases:
    if len(paths) == 1 and _is_of_promptfoo(paths[0]):
        if stated.run is not None or stated.answer is not None:
            raise TaskError("--run and --answer are for Evals exports; a promptfoo test names its answer itself")
        return promptfoo.read(paths[0], stated.prompt, stated.question)
    if other := [path for path in paths if path.suffix.lower() in (*YAML, ".csv")]:
        raise SourceError(f"{other[0]}: an Evals export is JSON or JSON Lines, and a promptfoo file is imported alone")
    if stated.prompt is not None:
        raise TaskError("--prompt is for promptfoo; the run of an Evals export is named by --run")
    return openai_evals.read(paths, stated.question, stated.answer, stated.run)


def _is_of_promptfoo(path: Path) -> bool:
    ending = path.suffix.lower()
    if ending in YAML:
        return promptfoo.is_config(found := yaml_document(path).value) or isinstance(found, list)
    return ending == ".csv" or (ending == ".json" and promptfoo.is_config(json_document(path)))


def _attributes(cases: Cases, stated: Stated, folder: Path, root: Path) -> dict[str, Any]:
    """All that the task's YAML says."""
    source = {"kind": "chat_jsonl", "path": DATA, "region": "all"}
    shown = [_images(case) for case in cases.taken]
    if any(not url.startswith(("https://", "data:")) for urls in shown for url in urls):
        source["image_root"] = os.path.relpath(root.resolve(), folder.resolve())
    return {
        "task": stated.task,
        "description": "Cases of an evaluation that was kept elsewhere.",
        "regions": ["all"],
        "source": source,
        "sampling": dict(_SAMPLING),
        "prompt": {"user": "{question}"},
        "answer": _answer(cases, stated.kind),
        "base_model": stated.model or ("gpt-4o-2024-08-06" if any(shown) else "gpt-4o-mini-2024-07-18"),
        "provider": stated.provider,
    }


def _answer(cases: Cases, kind: str | None) -> dict[str, Any]:
    counts = Counter(case.answer for case in cases.taken)
    labels = cases.labels or []
    if kind is None and len(labels) > 2 and set(counts) <= set(labels):
        return {"kind": "choice", "options": labels}
    return answer_of(counts, kind=kind)


def _of_labels(cases: Cases, answer: dict[str, Any]) -> list[str]:
    """Name the options that no case has as its answer: nothing can be said of them."""
    missing = [one for one in answer.get("options", ()) if all(case.answer != one for case in cases.taken)]
    return [f"no case has the answer {', '.join(missing)}"] if missing else []


def _images(case: Case) -> list[str]:
    parts = [part for message in case.messages for part in message["content"] if isinstance(part, dict)]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def _readable(cases: list[Case], attributes: dict[str, Any], folder: Path) -> tuple[list[Case], list[Left]]:
    """Part the cases that the task reads from the others."""
    _write(folder, cases)
    task = _task(attributes, folder)
    kept: list[Case] = []
    left: list[Left] = []
    for case, example in zip(cases, sources.read(task.source, "all", task.answer), strict=True):
        if example.problem is None:
            kept.append(case)
        else:
            left.append(Left(case.where, example.detail or str(example.problem)))
    return kept, left


def _task(attributes: dict[str, Any], folder: Path) -> Task:
    try:
        return Task.model_validate(attributes, context={"folder": folder})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
        raise TaskError(
            f"no task can be made of it: {place}: {first['msg']}; say the answer's kind by --kind"
        ) from error


def _write(folder: Path, cases: list[Case]) -> None:
    write_atomically(UPath(folder / DATA), "".join(f"{_line(case, folder)}\n" for case in cases).encode())


def _line(case: Case, folder: Path) -> str:
    messages = [{**message, "content": _placed(message["content"], folder)} for message in case.messages]
    answered = {"role": "assistant", "content": case.answer}
    line = {"messages": [*messages, answered], "metadata": {"from": case.where}}
    return json.dumps(line, ensure_ascii=False)


def _placed(content: Any, folder: Path) -> Any:
    """A message's content with the paths of images as the chat file names them."""
    if isinstance(content, str):
        return content
    return [
        {"type": "image_url", "image_url": {"url": _from(part["image_url"]["url"], folder)}}
        if part["type"] == "image_url"
        else part
        for part in content
    ]


def _from(url: str, folder: Path) -> str:
    return url if url.startswith(("https://", "data:")) else os.path.relpath(url, folder.resolve())


def _first(left: Sequence[Left]) -> str:
    return f": {left[0].where}: {left[0].reason}" if left else ": it holds no case"
