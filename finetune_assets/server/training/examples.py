"""What a trainer learns from: the examples of a file as token ids, and the order in which they are learned.

A file is read line by line; of an example only its ids stay in memory, 5 bytes a token. Its image features are on disk.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.errors import TrainingFileError
from finetune_assets.server.model.chat_encoding import PromptError, Sequence, encode_conversation, encode_prompt
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.tools import tools_of
from finetune_assets.server.training.feature_file import FeatureFile

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation."""

    ids: Tensor
    """int32 `[s]`; a negative id is an image slot."""
    learned: Tensor
    """bool `[s]`: whether training learns to predict the token."""
    images: list[Tensor]
    """Features of its images, `[slots, d_features]` each, in order of their slots."""
    extras_file: Path | None = None
    """Where what the model's own forward takes beside the ids is kept; None where it takes nothing."""

    @property
    def extras(self) -> dict[str, Tensor]:
        """What the model's own forward takes beside the ids, read when it is looked at."""
        return load_file(self.extras_file) if self.extras_file else {}

    def trimmed(self) -> tuple[Tensor, list[Tensor]]:
        """Ids and images that a learned token follows: nothing is learned from what comes after the last of them."""
        ids = self.ids[: int(self.learned.nonzero()[-1])]
        slots = int((ids < 0).sum())
        ends = accumulate(map(len, self.images))
        return ids, [image for image, end in zip(self.images, ends, strict=True) if end <= slots]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class Pair:
    """A conversation with a preferred answer, and the same with another one (DPO)."""

    preferred: Example
    other: Example
    reference: float = 0.0
    """How much more probable the model finds the preferred answer before training: difference of log-probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What a model is to answer, and a grader to judge."""

    line: int
    """Of its file."""
    row: dict[str, Any]
    """All of the line, which is the grader's `item`."""
    prompt: Example
    """Up to where the answer begins; nothing of it is learned."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation."""
        return self.row["messages"]


class Reader:
    """Reads a job's files.

    `dropped` counts the examples that had no token left to learn within the context, `cut` those of which a part is.
    """

    def __init__(self, network: Network, features: FeatureFile) -> None:
        self._network = network
        self._features = features
        self.dropped = self.cut = 0

    def chats(self, path: Path) -> list[Example]:
        """Read a file in chat format.

        Raises:
            TrainingFileError: a line cannot be used by this model, or none can.
        """
        return self._read(path, lambda _, line: self._examples(line["messages"], tools_of(line)))

    def pairs(self, path: Path) -> list[Pair]:
        """Read a file in preference format.

        Raises:
            TrainingFileError: as `chats`.
        """
        return self._read(path, lambda _, line: self._pair(line))

    def tasks(self, path: Path, effort: str | None) -> list[Task]:
        """Read a file in reinforcement format; `effort` is how much the model is asked to think.

        Raises:
            TrainingFileError: as `chats`.
        """
        return self._read(path, lambda number, line: self._task(number, line, effort))

    def _read(self, path: Path, encode: Callable[[int, dict[str, Any]], list[Item]]) -> list[Item]:
        if self._network.vision is not None:
            self._see(path)
        read: list[Item] = []
        for number, line in _objects(path):
            with _naming(number):
                items = encode(number, line)
            self.dropped += not items
            read += items
        if not read:
            longest = self._network.max_length
            raise TrainingFileError(f"no example has a token to learn within the model's context of {longest:,} tokens")
        return read

    def _see(self, path: Path) -> None:
        for number, line in _objects(path):
            with _naming(number):
                for url in image_urls(line):
                    self._features.add(url)

    def _examples(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> list[Example]:
        made = []
        for sequence in encode_conversation(self._network, messages, self._features, tools):
            if sequence.extras and len(sequence.ids) > self._network.max_length:
                continue  # a cut might go through an image
            example = truncate(sequence, self._network.max_length)
            # The first token is predicted from nothing, so it cannot be learned.
            if example.learned[1:].any():
                kept = self._features.keep(sequence.extras) if sequence.extras else None
                made.append(replace(example, extras_file=kept))
                self.cut += len(example) < len(sequence.ids)
        return made

    def _task(self, number: int, line: dict[str, Any], effort: str | None) -> list[Task]:
        made = encode_prompt(self._network, line["messages"], self._features, None, effort)
        if made.extras:
            name = self._network.base.name
            told = f"the model {name!r}, which sees by a processor of its own, cannot be trained by reinforcement here"
            raise PromptError(f"{told}; choose another model, or the method 'supervised'", "unsupported_value")
        if len(made.ids) >= self._network.max_length:
            return []  # no room for an answer
        ids = torch.tensor(made.ids, dtype=torch.int32)
        return [Task(number, line, Example(ids, torch.zeros(len(ids), dtype=torch.bool), made.images))]

    def _pair(self, line: dict[str, Any]) -> list[Pair]:
        asked = line["input"]
        prompt = [
            {**message, "weight": 0} if message["role"] == "assistant" else message for message in asked["messages"]
        ]
        answers = [line[field][0] | {"weight": 1} for field in ("preferred_output", "non_preferred_output")]
        preferred, other = (self._examples([*prompt, answer], tools_of(asked)) for answer in answers)
        return [Pair(preferred[-1], other[-1])] if preferred and other else []


def image_urls(line: dict[str, Any]) -> Iterator[str]:
    """All images of a line in either format."""
    for message in line.get("messages") or line["input"]["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part["type"] == "image_url":
                yield part["image_url"]["url"]


def truncate(sequence: Sequence, max_length: int) -> Example:
    """Cut an example at the end to the context length, as OpenAI does; never within an image."""
    ids, images, end = sequence.ids[:max_length], sequence.images, min(len(sequence.ids), max_length)
    slots, kept = sum(token < 0 for token in ids), 0
    while kept < len(images) and len(images[kept]) <= slots:
        slots -= len(images[kept])
        kept += 1
    # What is left are the slots of an image that is cut; the text before it is kept.
    while slots:
        end -= 1
        slots -= ids[end] < 0
    ids = torch.tensor(ids[:end], dtype=torch.int32)
    return Example(ids, torch.tensor(sequence.learned[:end], dtype=torch.bool), images[:kept])


def packed(items: list[Item], length: Callable[[Item], int], most: int) -> list[list[Item]]:
    """Items in packs of at most `most` tokens, unless one item alone has more.

    The longest first, each into the pack that it leaves the least room in (best fit decreasing, which takes at most
    11/9 of the packs that are needed, and a few: Johnson et al. 1974).
    """
    packs: list[list[Item]] = []
    room: list[tuple[int, int]] = []
    for item in sorted(items, key=length, reverse=True):
        place = bisect_left(room, (length(item), -1))
        left, pack = room.pop(place) if place < len(room) else (most, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(item)
        insort(room, (left - length(item), pack))
    return packs


def batches(
    items: list[Item], size: int, length: Callable[[Item], int], shuffler: random.Random
) -> Iterator[list[Item]]:
    """Every item once, in random order, with neighbours in length together so that little is padded."""
    order = items.copy()
    shuffler.shuffle(order)
    window = 8 * size
    ordered = [item for i in range(0, len(order), window) for item in sorted(order[i : i + window], key=length)]
    made = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    shuffler.shuffle(made)
    yield from made


def parts(batch: Iterable[Item], length: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Split a batch so that no part has more than `most` tokens when padded, but for a single longer item."""
    part: list[Item] = []
    for item in sorted(batch, key=length):
        if part and (len(part) + 1) * length(item) > most:
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines(path):
        if isinstance(line, JsonProblem):
            if line.code == "blank_line":  # a warning of validation
                continue
            raise TrainingFileError(f"line {number}: {line.message}")  # it was changed since validation
        yield number, line


class _naming:  # noqa: N801 (used as a statement)
    """Name the line in errors about what is done with it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, PromptError):
            raise TrainingFileError(f"line {self._number}: {error}") from error
