"""Looks at a job's files before it is queued: bad data fails the job here, naming the line and what is wrong with it.

The rules of the format are the pipeline's own (`training_file.validation`); what is added is what the job's base model
cannot learn from, as far as that shows without its weights.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from finetune_assets.dataset.json_lines import lines
from finetune_assets.errors import BaseModelError, UnfitModelError
from finetune_assets.server import catalog
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.database.files import DamagedFileError
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.jobs import graded
from finetune_assets.server.model.tools import tools_of
from finetune_assets.server.shortage import MEMORY
from finetune_assets.training_file.target import find_target
from finetune_assets.training_file.validation import FileReport
from finetune_assets.training_file.validation import validate as validate_files

_ERRORS_TOLD = 5
_AROUND = 256
"""More tokens than a chat template writes around a message."""
_OWN_SLOTS, _SLOTS = 16, 16_384
"""More tokens than an image has, of the bundled model and of others."""


def validate(stores: Stores, job: Job) -> None:
    """Send the job on to training, or fail it over the lines and fields that are wrong in its files."""
    named = {"training_file": job.training_file, "validation_file": job.validation_file}
    paths: dict[str, Path] = {}
    for param, file_id in named.items():
        try:
            if file_id is not None:
                paths[param] = content(stores, file_id)
        except DamagedFileError as error:
            stores.job_life.failed(job.id, f"invalid_{param}", str(error), param)
            return
    method: Any = job.method
    target = find_target("local", job.base)
    report = validate_files(paths["training_file"], paths.get("validation_file"), target, method)
    for param, file in zip(paths, report.files, strict=True):
        told = _describe(file, param) if file.errors else _unfit(stores, job, paths[param], file)
        if not told and job.reinforcement is not None:
            told = graded.problem(stores, job, paths[param])
        if told:
            stores.job_life.failed(job.id, _error_code(file, param), told, param)
            return
    if told := _too_large(stores, job, paths["training_file"]):
        stores.job_life.failed(job.id, MEMORY.code, told, "model")
        return
    stores.job_life.validated(job.id)


def content(stores: Stores, file_id: str) -> Path:
    """Say where the unchanged bytes of a file are.

    Raises:
        DamagedFileError: the file was deleted, or its bytes were changed.
    """
    file = stores.files.get(file_id)
    if file is None:
        raise DamagedFileError(f"No such File object: {file_id}")
    return stores.files.verify(file)


def _unfit(stores: Stores, job: Job, path: Path, file: FileReport) -> str | None:
    """Say what in a well-formed file this base model cannot learn from, which is seen without its weights."""
    base = catalog.find(stores, job.model).base
    if file.n_images and not base.vision:
        return f"The model {job.model} takes no images, but the file has {file.n_images}; choose a model that sees."
    if job.method == "reinforcement":  # nothing in the file is learned
        return None
    doubtful = [(number, line) for number, line in lines(path) if isinstance(line, dict) and _may_be_left_out(line)]
    if not doubtful and (base.bundled or not base.vision):
        return None
    # Only here: these import torch, which takes seconds.
    from finetune_assets.server.jobs.lessons import Lessons
    from finetune_assets.server.model.chat_template import PromptError
    from finetune_assets.server.model.front import load_front

    try:
        lessons = Lessons(load_front(base), job.model)
        for number, line in doubtful:
            for messages, tools in _conversations(line):
                try:
                    lessons.check(messages, tools)
                except PromptError as error:
                    return f"line {number}: {error}"
    except UnfitModelError as error:
        return str(error)
    return None


def _too_large(stores: Stores, job: Job, path: Path) -> str | None:
    """Say that this machine cannot hold the training, and what it could; None where it can, or nobody knows."""
    from finetune_assets.server.training.room import Room, TooLargeError, plan

    model, room = catalog.find(stores, job.model), Room.here()
    context, rank = (job.hyperparameters.get(name) for name in ("context_length", "lora_r"))
    answer = graded.answer_tokens(job)
    try:
        with suppress(TooLargeError):
            plan(model.base, answer + _at_most(path, model.base, context), rank, room)
            return None
        plan(model.base, answer + _longest(path, model.base, context), rank, room)
    except TooLargeError as error:
        return str(error)
    except (OSError, ValueError, BaseModelError):  # its files are not here, or are wrong: the training says so
        return None
    return None


def _at_most(path: Path, base: BaseModel, context: int | None) -> int:
    """No example has more tokens than this: each is a byte at least, and templates and images add some."""
    found = 0
    for _, line in lines(path):
        conversations = _conversations(line) if isinstance(line, dict) else []
        for messages, tools in conversations:
            urls = [url for message in messages for url in _urls(message)]
            text = len(orjson.dumps([messages, tools])) - sum(map(len, urls))
            around = _AROUND * len(messages) + (_OWN_SLOTS if base.bundled else _SLOTS) * len(urls)
            found = max(found, len(conversations) * min(text + around, context or text + around))
    return found


def _urls(message: dict[str, Any]) -> list[str]:
    parts = message.get("content")
    return [part["image_url"]["url"] for part in parts if "image_url" in part] if isinstance(parts, list) else []


def _longest(path: Path, base: BaseModel, context: int | None) -> int:
    from finetune_assets.server.model.network import hollow
    from finetune_assets.server.training.lengths import longest

    network = hollow(base)
    network.max_length = min(network.max_length, context or network.max_length)
    examples = (_conversations(line) for _, line in lines(path) if isinstance(line, dict))
    return longest(network, ([(_answered(messages), tools) for messages, tools in example] for example in examples))


def _answered(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A conversation with an answer, of which there is none where it is yet to be given."""
    return messages if messages[-1]["role"] == "assistant" else [*messages, {"role": "assistant", "content": "."}]


def _conversations(line: dict[str, Any]) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]] | None]]:
    if "messages" in line:
        return [(line["messages"], tools_of(line))]
    asked, fields = line["input"], ("preferred_output", "non_preferred_output")
    return [([*asked["messages"], *line[field]], tools_of(asked)) for field in fields]


def _may_be_left_out(line: dict[str, Any]) -> bool:
    """Whether a line has something that chat templates leave out or rewrite: tools, or several answers."""
    for messages, tools in _conversations(line):
        fields = any("tool_calls" in message or "function_call" in message for message in messages)
        roles = [message["role"] for message in messages]
        if tools or fields or {"tool", "function"} & set(roles) or roles.count("assistant") > 1:
            return True
    return False


def _error_code(file: FileReport, param: str) -> str:
    if {error.code for error in file.errors} == {"too_few_examples"}:
        return "invalid_n_examples"
    return f"invalid_{param}"


def _describe(file: FileReport, param: str) -> str:
    told = [f"line {e.line}: {e.message}" if e.line else e.message for e in file.errors[:_ERRORS_TOLD]]
    if (rest := len(file.errors) - _ERRORS_TOLD) > 0:
        told.append(f"and {rest} more")
    return f"The {param.replace('_', ' ')} cannot be used: {'; '.join(told)}"
