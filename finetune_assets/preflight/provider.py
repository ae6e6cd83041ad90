"""The provider of a task, asked: whether it answers, knows the model, keeps it, takes new jobs, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec

from finetune_assets.errors import ProviderError
from finetune_assets.preflight.finding import Finding
from finetune_assets.preflight.names import known_models
from finetune_assets.provider import lifecycle, pricing
from finetune_assets.provider.client import Client, connect, explained, is_gone
from finetune_assets.provider.local_server import HOME, named_url
from finetune_assets.running import running
from finetune_assets.task import Task
from finetune_assets.task.arms import DecisionsArm, FrontierArm, OptimisedPromptArm, name_of
from finetune_assets.task.faults import nearest

_TIMEOUT_S = 5


def reach(name: str) -> tuple[Client | None, Finding]:
    """Ask a provider for its models, with the key that is there; the key itself is never shown."""
    what = f"provider {name}"
    try:
        if name == "local" and named_url() is None and running(HOME) is None:
            words = "it does not run here; `finetune-assets demo`, `ui` and `serve` start it"
            return None, Finding(what, "warning", words)
        client = connect(name).with_options(timeout=_TIMEOUT_S, max_retries=0)
    except ProviderError as error:
        return None, Finding(what, "bad", str(error))
    try:
        with explained(client):
            client.models.list()
    except ProviderError as error:
        # A provider that has no list of models has answered all the same.
        if not is_gone(error):
            return None, Finding(what, "bad", str(error))
    if ending := lifecycle.new_jobs_end(name):
        today = datetime.now(UTC).date()
        state = "bad" if ending.days_left(today) <= 0 else "warning"
        return client, Finding(what, state, f"it answers; {ending.in_words(today)}")
    return client, Finding(what, "good", "it answers")


def findings(task: Task) -> Iterator[Finding]:
    """Look at a task's provider, its model there and its prices."""
    client, finding = reach(task.provider)
    yield finding
    if client is not None:
        yield _model(client, task)
    yield from _arms(task)
    yield from _budget(task)


def _arms(task: Task) -> Iterator[Finding]:
    """Look at the other models that the task's contest asks: one that cannot be asked is left out of it."""
    for arm in task.benchmark.contest:
        if isinstance(arm, OptimisedPromptArm) and find_spec("gepa") is None:
            words = "it will be left out of the contest: `pip install 'finetune_assets[prompts]'` installs gepa"
            yield Finding(f"arm {name_of(arm)}", "warning", words)
            continue
        if not isinstance(arm, FrontierArm | DecisionsArm | OptimisedPromptArm) or arm.provider is None:
            continue
        client, found = reach(arm.provider)
        if client is None:
            yield Finding(f"arm {name_of(arm)}", "warning", f"it will be left out of the contest: {found.words}")
            continue
        model = _model(client, task.model_copy(update={"provider": arm.provider, "base_model": arm.model}))
        yield Finding(f"arm {name_of(arm)}", "warning" if model.state == "bad" else model.state, model.words)


def _model(client: Client, task: Task) -> Finding:
    what, model = f"model {task.base_model}", task.base_model
    try:
        listed = _listed(client)
        if model not in listed:
            with explained(client):
                client.models.retrieve(model)  # a list may leave out what can be asked for
        ending = lifecycle.shutdown(client, task.provider, model)
    except ProviderError as error:
        if not is_gone(error):
            return Finding(what, "bad", str(error))
        known = _listed(client) or known_models(task.provider)
        some = f"; it has {', '.join(known[:20])}" if known else ""
        return Finding(what, "bad", f"{task.provider} does not know it{nearest(model, known)}{some}")
    if ending:
        today = datetime.now(UTC).date()
        return Finding(what, "bad" if ending.days_left(today) <= 0 else "warning", ending.in_words(today))
    return Finding(what, "good", f"{task.provider} has it")


def _listed(client: Client) -> list[str]:
    """List the models that a provider names; none where it has no such list."""
    try:
        with explained(client):
            return [found.id for found in client.models.list()]
    except ProviderError as error:
        if is_gone(error):
            return []
        raise


def _budget(task: Task) -> Iterator[Finding]:
    training = pricing.prices_of(task).training
    unnamed = [region for region in task.regions if task.budget_of(region) == 0] if task.regions != "discover" else []
    if training and unnamed:
        words = f'`budget_usd` allows nothing for {", ".join(unnamed[:20])}; name a limit, or one for all others as "*"'
        yield Finding("budget", "bad", words)
    limited = (task.budget_usd, task.monthly_budget_usd) != (None, None)
    if training is None and limited:
        words = f"nobody knows what training {task.base_model} at {task.provider} costs, so `budget_usd` cannot be held"
        yield Finding("budget", "bad", f"{words}; state `prices`, or `checks: {{within_budget: warn}}`")
    elif training is None:
        words = (
            f"nobody knows what training {task.base_model} at {task.provider} costs; state `prices` and `budget_usd`"
        )
        yield Finding("budget", "warning", words)
    elif training and not limited:
        yield Finding("budget", "warning", "nothing limits what a region's training may cost; set `budget_usd`")
