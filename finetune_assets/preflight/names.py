"""Whether what a task names is there: checks, files, columns, models. Seconds at most, and nobody is asked.

Of the data no more than its first records are read, so that this can be done whenever definitions are checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from finetune_assets.dataset import sources
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sources.noticed import columns_there
from finetune_assets.errors import BaseModelError, ProviderError, SourceError
from finetune_assets.pipeline.component import known_checks
from finetune_assets.preflight.finding import Remark
from finetune_assets.provider import lifecycle, pricing
from finetune_assets.provider.local_server import HOME, named_url
from finetune_assets.server import base_models, proofs
from finetune_assets.task import Task
from finetune_assets.task.faults import nearest
from finetune_assets.task.sources import FileSource, HuggingFaceSource, columns_in, shows_images

N_RECORDS = 100
"""Of the data, in the order of the file; where all of them lack the same column, it is not there."""
_LACKING = {Reason.MISSING_FIELD, Reason.EMPTY_ANSWER, Reason.MALFORMED_LINE}


def remarks(task: Task) -> Iterator[Remark]:
    """Look at everything that a task names."""
    yield from unknown_checks(task)
    yield from _model(task)
    yield from _sampling(task)
    yield from _prompt(task)
    yield from _source(task)


def unknown_checks(task: Task) -> Iterator[Remark]:
    """Look at the names of the checks whose severity the task changes."""
    known = known_checks(task)
    for name in task.checks:
        if name not in known:
            words = f"there is no such check{nearest(name, known)}; those there are: {', '.join(known)}"
            yield Remark(("checks", name), words)


def known_models(provider: str) -> list[str]:
    """List the models that a provider is known to train, without asking it; none where nothing is known."""
    if provider == "local":
        # Another machine's server has a file of models of its own.
        return [] if named_url() else base_models.names(HOME)
    return sorted({*pricing.models(provider), *lifecycle.models(provider)})


def _model(task: Task) -> Iterator[Remark]:
    key, model = ("base_model",), task.base_model
    try:
        known = known_models(task.provider)
    except BaseModelError as error:
        yield Remark(("provider",), f"the local server's models cannot be read: {error}")
        return
    except ProviderError as error:
        yield Remark(("provider",), str(error))
        return
    is_here = task.provider == "local" and named_url() is None
    if known and not model.startswith("ft:") and lifecycle.base_of(model) not in known:
        near = nearest(model, known)
        words = f"{model!r} is no model that is known at {task.provider}{near}; known are {', '.join(known)}"
        # OpenAI may have brought out a new one since; the local server has what its file says.
        yield Remark(key, words, "bad" if near or task.provider == "local" else "warning")
    elif is_here and (reason := proofs.job_refusal(model, HOME)):
        yield Remark(key, f"the local server refuses {model}: {reason}")
    elif is_here and shows_images(task.source) and model in (blind := base_models.text_only(HOME)):
        sees = ", ".join(name for name in known if name not in blind)
        yield Remark(key, f"{model} reads text alone, and the examples have images; those that see: {sees}")
    elif ending := lifecycle.announced(task.provider, model):
        today = datetime.now(UTC).date()
        yield Remark(key, ending.in_words(today), "bad" if ending.days_left(today) <= 0 else "warning")


def _sampling(task: Task) -> Iterator[Remark]:
    """Look for percentages, which are counts."""
    amounts = task.sampling.amounts
    if task.sampling.by_count and sum(amounts.values()) == 100:
        words = "whole numbers are counts: 100 examples of each region; 50 % of them is written 0.5"
        yield Remark(("sampling",), words, "warning")


_COLUMN = re.compile(r"(?<![\w}\\])\{([^\W\d]\w*)\}")
"""What was meant for one: not a part of a formula, and no JSON."""


def _prompt(task: Task) -> Iterator[Remark]:
    """Look for columns in the prompt, which are not filled in there."""
    for key, text in (("system", task.prompt.system), ("user", task.prompt.user)):
        named = [name for name in _COLUMN.findall(text) if name != "question"]
        if not named:
            continue
        try:
            there = columns_there(task.source, named)
        except SourceError:
            return  # that it cannot be read is said at the source
        for name in named:
            if name in there:
                advice = "write it in source.question, which takes the place of {question}"
                yield Remark(("prompt", key), f'"{{{name}}}" is a column, and those are not filled in here; {advice}')
            else:
                words = (
                    f'"{{{name}}}" stays as it is written, braces and all; only {{question}} in prompt.user is filled'
                )
                yield Remark(("prompt", key), words, "warning")


def _source(task: Task) -> Iterator[Remark]:
    """Open the data and read its first records."""
    source = task.source
    if not isinstance(source, FileSource | HuggingFaceSource) or getattr(source, "name", None):
        return  # data of a package or of the hub: `check` alone fetches it
    try:
        first = sources.first_records(source, task.answer, N_RECORDS)
    except SourceError as error:
        yield refused(task, error)
        return
    if not first:
        yield Remark(("source",), "there is no record in it; put labelled examples there")
    elif all(example.problem in _LACKING for example in first):
        # A format without a header has a column where some record has it.
        one = first[0]
        words = f"none of its first records can be read ({one.problem}); {one.source}: {one.detail}"
        yield Remark(key_of(task, one.detail), words)


def refused(task: Task, error: SourceError) -> Remark:
    """Say why the data cannot be read, at the key that names what is wrong in it."""
    return Remark(key_of(task, str(error)), str(error))


def key_of(task: Task, words: str) -> tuple[str | int, ...]:
    """Find the key of the source whose column or path a message speaks of."""
    if literal := re.search(r"\bsource\.(\w+)", words):
        return ("source", literal[1])
    fields = {name: value for name, value in task.source if isinstance(value, str) and value and name != "kind"}
    said = re.split(r" \(did you mean|; it has|; its keys", words)[0].rpartition(": ")[2]
    said = (re.search(r"\b(?:columns?|has no|has the|lacks?|called)\b.*", said, re.DOTALL) or [""])[0]
    for name, written in fields.items():
        if any(re.search(rf"(?<![\w.]){re.escape(column)}(?![\w.])", said) for column in columns_in(written)):
            return ("source", name)
    # The file first: what else a source says may be a word of the message by chance.
    ordered = sorted(fields, key=lambda name: name != "path")
    named = next((name for name in ordered if re.search(rf"(?<!\w){re.escape(fields[name])}(?!\w)", words)), None)
    return ("source", named) if named else ("source",)
