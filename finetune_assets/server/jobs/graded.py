"""What in a file of prompts the grader, or the model that answers, cannot use: seen before reinforcement begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_assets.dataset.json_lines import lines
from finetune_assets.errors import UnfitModelError
from finetune_assets.server import catalog
from finetune_assets.server.database.schema import Job
from finetune_assets.server.database.stores import Stores
from finetune_assets.server.grading.graders import Grader, read
from finetune_assets.server.grading.template import UnfilledError, Values
from finetune_assets.server.model.tools import tools_of

_TOLD = 5


def problem(stores: Stores, job: Job, path: Path) -> str | None:
    """Say what is wrong, by line and field; None where nothing is."""
    asked = job.reinforcement or {}
    grader = read(asked["grader"])
    told = [f"line {number}: {wrong}" for number, line in lines(path) if (wrong := _wrong(line, grader))]
    if told:
        more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
        return f"The file cannot be graded: {'; '.join([*told[:_TOLD], *more])}"
    base = catalog.find(stores, job.model).base
    effort = asked.get("reasoning_effort")
    if effort is None and (base.bundled or not base.vision):
        return None
    # Only here: it imports torch, which takes seconds.
    from finetune_assets.server.model.front import load_front

    try:
        front = load_front(base)
        if front.processor is not None:
            told = f"the model {job.model} sees by a processor of its own, and is not trained by reinforcement here"
            return f"{told}; choose another model, or the method 'supervised'"
        return _unknown_effort(effort, job, front.renderer) if effort else None
    except UnfitModelError as error:
        return str(error)


def answer_tokens(job: Job) -> int:
    """How many tokens an answer may have beside its prompt; 0 where answers stand in the file."""
    if job.method != "reinforcement":
        return 0
    from finetune_assets.server.training.reinforcement import ANSWER_TOKENS

    return int(job.hyperparameters.get("max_completion_tokens") or ANSWER_TOKENS)


def _wrong(line: Any, grader: Grader) -> str | None:
    if not isinstance(line, dict):
        return None  # a blank line; others were refused before
    if tools_of(line):
        return "it declares tools, which answers are not graded with here; take 'tools' out"
    for name in grader.names:
        if name.space == "item":
            try:
                found = name.value(Values(line, ""))
            except UnfilledError:
                found = None
            if found is None:
                return f"it has no {name.written.removeprefix('item').lstrip('.')!r}, which the grader looks up"
    return None


def _unknown_effort(effort: str, job: Job, renderer: Any) -> str | None:
    from finetune_assets.server.model.answer_form import answer_form
    from finetune_assets.server.model.chat_template import ChatTemplate

    known = answer_form(ChatTemplate.of(renderer, job.model)).efforts
    if effort in known:
        return None
    told = ", ".join(known) or "none"
    return (
        f"the model {job.model} cannot reason with the effort {effort!r}: its chat template knows {told}; leave it out"
    )
