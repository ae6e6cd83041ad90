"""How a proposed task's rows will be read: the first examples, what is set aside and why, and what training takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from finetune_assets.dataset import images, sources
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.given_away import GivenAway
from finetune_assets.dataset.image_addresses import is_elsewhere
from finetune_assets.errors import FinetuneAssetsError, ImageError
from finetune_assets.provider.pricing import expected_epochs, training_cost
from finetune_assets.task import Task
from finetune_assets.training_file.chat_format import to_messages
from finetune_assets.training_file.image_cost import LOW_DETAIL_TOKENS
from finetune_assets.training_file.tokens import example_tokens

EXAMPLES = 10
ROWS = 20_000
"""Rows that are read; a larger source is read in full by the pipeline only."""
IMAGES = 100
"""Images that are opened."""
DRAWN = 500
"""Examples of a region of which the splits are looked at; of more, every seed gives about the same."""
_SECONDS_PER_IMAGE, _SECONDS_PER_TOKEN = 0.25, 0.004
"""Of one example, once, by the bundled models on two CPU cores: of the demo's training, and of text."""
_TOKENS_AROUND = 30
"""What the bundled models' template adds to the messages of an example."""


@dataclass(slots=True)
class Preview:
    """What was read."""

    given_away: GivenAway
    """Whether questions hold their own answers."""
    n: int = 0
    """Rows that are examples, up to `ROWS` of all regions together."""
    examples: list[Example] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)
    """Rows set aside, by reason."""
    why: dict[str, str] = field(default_factory=dict)
    """The first detail of each reason."""
    regions: Counter[str] = field(default_factory=Counter)
    """Examples of each region."""
    answers: Counter[str] = field(default_factory=Counter)
    """Examples of each answer."""
    drawn: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Of each region the group and the answer of its examples, as far as `DRAWN`."""
    tokens: int = 0
    """Of all examples as training files hold them."""
    failed: str = ""
    """Why nothing can be read at all."""


def preview(task: Task) -> Preview:
    """Read a task's first rows as the pipeline will."""
    seen = Preview(GivenAway(task.answer))
    try:
        for region in sources.regions_of(task):
            # Each region's share of the rows, so that the first does not take them all.
            for example in islice(sources.read(task.source, region, task.answer), ROWS - seen.n - seen.aside.total()):
                _see(task, seen, example)
    except FinetuneAssetsError as error:
        seen.failed = str(error)
    return seen


def _see(task: Task, seen: Preview, example: Example) -> None:
    problem, detail = example.problem, example.detail
    if problem is None and example.image is not None and seen.n < IMAGES:
        try:
            for image in [picture.image for picture in example.pictures] or [example.image]:
                _look(image)
        except ImageError as error:
            problem, detail = error.reason, error.detail
    if problem is not None:
        seen.aside[str(problem)] += 1
        seen.why.setdefault(str(problem), detail)
        return
    seen.n += 1
    seen.given_away.add(example)
    seen.regions[example.region] += 1
    seen.answers[example.answer or "(none)"] += 1
    drawn = seen.drawn.setdefault(example.region, [])
    if len(drawn) < DRAWN:
        drawn.append((example.group or _alone(example), example.answer or ""))
    if len(seen.examples) < EXAMPLES:
        seen.examples.append(example)
    seen.tokens += example_tokens(to_messages(task.prompt, example.question, answer=example.answer))
    seen.tokens += LOW_DETAIL_TOKENS * (len(example.pictures) or (example.image is not None))


def _look(image: str | bytes) -> None:
    """Open an image, if that fetches nothing from elsewhere."""
    if isinstance(image, bytes):
        images.inspect(image)
    elif not is_elsewhere(image):
        images.inspect(images.read(image))


def _alone(example: Example) -> str:
    """Name the group of an example that has none of its own, as sampling does."""
    image = example.image
    if image is None or (isinstance(image, str) and is_elsewhere(image)):
        return example.id
    try:
        return hashlib.sha256(image if isinstance(image, bytes) else images.read(image)).hexdigest()
    except ImageError:
        return example.id


def seed(task: Task, seen: Preview) -> int:
    """Return a seed that gives every split of every region enough examples; the usual one where none does."""
    from finetune_assets.preflight import seeds

    found = seeds.first(task, [drawn for drawn in seen.drawn.values() if len(drawn) < DRAWN])
    return task.sampling.seed if found is None else found


def effort(task: Task, seen: Preview) -> str:
    """Say what training all regions will take: minutes on two CPU cores, or USD at a provider whose price is known."""
    share = task.sampling.train if not task.sampling.by_count else min(1.0, task.sampling.train / max(seen.n, 1))
    n_train, tokens = round(seen.n * share), round(seen.tokens * share)
    epochs = expected_epochs(task.method.n_epochs, max(n_train, 1))
    cost = training_cost(task, tokens, epochs)
    if task.provider != "local":
        price = "a price that is not known; state `prices`" if cost is None else f"about ${cost:.2f}"
        return f"{tokens:,} tokens, {epochs} times, for {price}"
    pictured = any(example.image for example in seen.examples)
    of_text = (tokens + n_train * _TOKENS_AROUND) * _SECONDS_PER_TOKEN
    seconds = n_train * _SECONDS_PER_IMAGE if pictured else of_text
    minutes = round(seconds * epochs / 60)
    how_long = f"about {minutes} minutes" if minutes > 1 else "about a minute"
    return f"{how_long} on two CPU cores ({n_train:,} examples, {epochs} times)"
