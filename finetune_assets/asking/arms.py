"""Asks the arms of a contest: all of them the same test examples, in the same prompt, read in the same way.

What was asked before is in the answer cache, so that a contest costs what is new in it. An arm that cannot be asked is
left out, and it is said why; the others go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from finetune_assets.asking import prompt_search, spending
from finetune_assets.asking.neighbours import nearest
from finetune_assets.asking.predictions import CALIBRATED, Asked, predict, requests_of, settings
from finetune_assets.dataset.table import Table
from finetune_assets.errors import EvaluationError, ProviderError
from finetune_assets.evaluation.arms.entry import Entrants, Entry, LeftOut, ordered
from finetune_assets.evaluation.prediction import read_predictions
from finetune_assets.provider import decisions, pricing
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.asking import described
from finetune_assets.provider.batches import answer_in_batches
from finetune_assets.provider.client import Client, connect, explained
from finetune_assets.task import Task
from finetune_assets.task.arms import (
    Arm,
    CascadeArm,
    DecisionsArm,
    FewShotArm,
    FrontierArm,
    OptimisedPromptArm,
    name_of,
)

logger = logging.getLogger(__name__)
TUNED = "fine_tuned"


@dataclass(frozen=True)
class Line:
    """Who is asked what of a region."""

    task: Task
    """As the fine-tuned model was trained."""
    client: Client
    """Of the task's provider."""
    clean: Table
    """`filtered_qa`."""
    predictions: pd.DataFrame
    """What the benchmark asked, the fine-tuned model's answers among it."""
    cache: AnswerCache
    spent_usd: float
    """On the region's training."""
    budget_usd: float | None
    """For the training and what arms cost beside it; None is no limit."""
    say: Callable[[str], None] = logger.info


def ask_arms(line: Line, arms: Sequence[Arm]) -> tuple[Entrants, pd.DataFrame]:
    """Ask each arm but the cascades, which are made of others' answers.

    Returns:
        Who answered and who was left out; and all that was asked for it, columns as of predictions, the arm's name as
        the role.
    """
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    tables: list[pd.DataFrame] = []
    examples = line.clean.frame(split=CALIBRATED)
    handed_to = {arm.to for arm in arms if isinstance(arm, CascadeArm)}
    costs = spending.contest(line.task, arms, Counter(examples["split"].tolist()), _length(line.predictions))
    for arm in arms:
        if isinstance(arm, CascadeArm):
            continue
        name = name_of(arm)
        try:
            if isinstance(arm, OptimisedPromptArm):
                prompt_search.require_gepa()
            if isinstance(arm, FrontierArm | DecisionsArm | OptimisedPromptArm) and arm.provider is not None:
                connect(arm.provider)  # that there is no key is said before what it would cost
            spending.require_affordable(costs, name, line.task, line.spent_usd, line.budget_usd)
            wanted = examples if name in handed_to else examples.loc[examples["split"] == "test"]
            entry, table = _entered(line, arm, wanted)
        except (ProviderError, EvaluationError) as error:
            line.say(f"{name} is left out of the contest: {error}")
            left_out.append(LeftOut(name, str(error)))
            continue
        entries.append(entry)
        tables.append(table)
    asked = pd.concat(tables, ignore_index=True) if tables else line.predictions.head(0)
    return Entrants(tuple(entries), tuple(left_out)), asked


def own_entry(line: Line, name: str = "tuned") -> Entry:
    """Return the fine-tuned model's answers, which the benchmark has asked for."""
    test, known = (ordered(read_predictions(line.predictions, split, TUNED)) for split in ("test", "calibration"))
    prices = pricing.prices_of(line.task)
    return Entry(name, "tuned", "the fine-tuned model", test, known, prices.fine_tuned, prices.batch_share)


def _entered(line: Line, arm: Arm, examples: pd.DataFrame) -> tuple[Entry, pd.DataFrame]:
    """Ask one arm.

    Raises:
        ProviderError: its provider has no key, does not answer, or refuses.
        EvaluationError: it cannot be asked about such examples.
    """
    if arm.kind == "tuned":
        own = line.predictions.loc[line.predictions["role"] == TUNED]
        return own_entry(line, name_of(arm)), own.assign(role=name_of(arm))
    client, asked, how = _how(line, arm, examples)
    if asked.task.benchmark.batch:
        questions = requests_of(asked.task, examples, asked.shown)
        answer_in_batches(
            client, [(settings(asked.task, examples["answer"], asked.model), questions)], line.cache, line.say
        )
    table = predict(client, asked, examples, name_of(arm), line.cache, line.say)
    prices = pricing.prices_of(asked.task)
    test, known = (ordered(read_predictions(table, split)) for split in ("test", "calibration"))
    prompt = asked.task.prompt.system if isinstance(arm, OptimisedPromptArm) else None
    return Entry(name_of(arm), arm.kind, how, test, known, prices.base, prices.batch_share, prompt=prompt), table


def _how(line: Line, arm: Arm, examples: pd.DataFrame) -> tuple[Client, Asked, str]:
    """Return who is asked, how, and that in words."""
    task, where, who = spending.asked_in(line.task, arm), "", "the base model"
    client = line.client
    if isinstance(arm, FrontierArm | DecisionsArm) and arm.provider is not None:
        client, who, where = connect(arm.provider), str(arm.model), f" at {arm.provider}"
    model = task.base_model
    if isinstance(arm, FewShotArm):
        shown = nearest(line.clean, examples, arm.examples)
        words = f"{who}, shown the {arm.examples} training examples most like the question"
        return client, Asked(model, task, shown=shown), words
    if isinstance(arm, OptimisedPromptArm):
        return _under_another_prompt(line, arm)
    if isinstance(arm, DecisionsArm):
        _require_decisions(client, task, examples)
        return client, Asked(model, _asked_by(task, "decisions")), f"{who}{where}, by decisions"
    return client, Asked(model, _asked_by(task, "completions")), f"{who}{where}, prompted"


def _under_another_prompt(line: Line, arm: OptimisedPromptArm) -> tuple[Client, Asked, str]:
    """Search for a prompt, which is paid for before the test is asked."""
    task = _asked_by(line.task, "completions")
    other = (connect(arm.provider), str(arm.model)) if arm.provider is not None else (line.client, task.base_model)
    seen = line.clean.frame(split=("train", "validation"))
    found = prompt_search.search((line.client, task), other, arm, seen, line.cache, line.say)
    prompt = task.prompt.model_copy(update={"system": found.system})
    words = (
        f"the base model under a prompt that {other[1]} wrote: {found.after:.3f} on {found.n_validation:,} validation "
        f"examples, the task's own {found.before:.3f}"
    )
    return line.client, Asked(task.base_model, task.model_copy(update={"prompt": prompt})), words


def _length(predictions: pd.DataFrame) -> spending.Length:
    """Take questions and answers to be as long as those of the fine-tuned model were."""
    own = predictions.loc[predictions["role"] == TUNED]
    return spending.Length(float(own["prompt_tokens"].mean()), float(own["completion_tokens"].mean()))


def _asked_by(task: Task, way: str) -> Task:
    return task.model_copy(update={"benchmark": task.benchmark.model_copy(update={"ask": way})})


def _require_decisions(client: Client, task: Task, examples: pd.DataFrame) -> None:
    asked = replace(settings(task, examples["answer"], task.base_model), ask="auto")
    with explained(client):
        about = described(client, task.base_model)
    if not decisions.decides(about, asked):
        raise EvaluationError(
            f"{task.provider} does not say that {task.base_model} answers /v1/decisions; name a model that does, such "
            "as {kind: decisions, provider: openai, model: gpt-6-luna}"
        )


def cascades_of(arms: Sequence[Arm]) -> Iterator[CascadeArm]:
    """Yield the cascades among the arms."""
    yield from (arm for arm in arms if isinstance(arm, CascadeArm))
