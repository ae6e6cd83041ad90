"""How many tokens a provider counts, without asking it.

Text is counted exactly in o200k_base (gpt-4o, gpt-4.1 and later). Around it come OpenAI's fixed costs: 3 tokens
a message besides its role, and 3 that open the answer (OpenAI cookbook, "How to count tokens with tiktoken").
Images follow the tables of OpenAI's vision guide.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from typing import Any

import orjson

PER_MESSAGE = 3
PER_NAME = 1
PER_ANSWER = 3
LOW_DETAIL_TOKENS = 85
"""An image at detail low in training, on every model (vision fine-tuning guide)."""
ASSUMED_SIZE = (1024, 1024)
"""Width and height of an image behind a URL, which is not fetched to be counted."""
DEFAULT_CONTEXT = 65_536
"""Longest example in tokens; a provider cuts off what is beyond. gpt-3.5-turbo has less."""

Talk = tuple[int, list[str]]
"""The tokens of a conversation besides its texts, and its texts."""
_SHORT = 1_000
_UNKNOWN = 1 << 40
"""More than the tokens of any text, so that a sum says whether it holds one."""
_LONGEST_WORD = 32
_MAX_WORDS = 100_000
"""Words that are remembered: some 20 MB."""
_TILES = {  # model prefix: tokens of the base, tokens of each 512 px tile
    "gpt-4o-mini": (2833, 5667),
    "gpt-5": (70, 140),
    "o1": (75, 150),
    "o3": (75, 150),
}
_TILES_OTHERWISE = (85, 170)
_PATCHES = {"gpt-4.1-mini": 1.62, "gpt-4.1-nano": 2.46, "o4-mini": 1.72}
_MAX_PATCHES = 1536


def count(text: str) -> int:
    """Count the tokens of a text in o200k_base; special tokens written out in it count as plain text."""
    return _count_repeated(text) if len(text) <= _SHORT else _count_words(text)


@lru_cache(maxsize=8192)
def _count_repeated(text: str) -> int:
    return _count_words(text)


def _count_words(text: str) -> int:
    """Add up the words, which takes less time than counting the text itself once most of them are known.

    A token never reaches across a space between two other characters: of the pieces that o200k_base cuts a text into
    before it looks for tokens, only runs of white space hold a space behind their first character.
    """
    first, space, rest = text.partition(" ")
    if not space or "  " in text:
        return _counter()(text)
    tokens = _counter()(first) + sum(map(_WORDS.__getitem__, rest.split(" ")))
    return tokens if tokens < _UNKNOWN else _counter()(text)


class _Words(dict[str, int]):
    """Tokens of a word with the space before it, or `_UNKNOWN` where the space begins a run of white space."""

    def __missing__(self, word: str) -> int:
        tokens = _counter()(f" {word}") if word and not word[0].isspace() else _UNKNOWN
        if len(word) <= _LONGEST_WORD:
            if len(self) >= _MAX_WORDS:
                self.clear()
            self[word] = tokens
        return tokens


@cache
def _counter() -> Callable[[str], int]:
    # Importing bpe_openai builds Python tables of all its encodings (0.8 s, 70 MB); its compiled core needs none.
    package = importlib.util.find_spec("bpe_openai")
    places = package.submodule_search_locations if package else None
    spec = PathFinder.find_spec("bpe_openai._bindings", places)
    if spec is None or spec.loader is None:
        raise ImportError("bpe-openai is not installed; run: pip install bpe-openai")
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    return core.tokenizer_for_encoding("o200k_base").count


_WORDS = _Words()


def context_limit(model: str | None) -> int:
    """Look up the longest example, in tokens, that the model trains on in full."""
    return 16_385 if model is not None and model.startswith("gpt-3.5") else DEFAULT_CONTEXT


def image_tokens(model: str | None, detail: str, width: int, height: int) -> int:
    """Count the tokens of one image of `width` x `height` pixels.

    `low` costs 85. `high` and `auto`: the image is fitted into 2048 x 2048, then its shorter side into 768, and each
    512 px tile counts on top of a base; the small 4.1 and o4 models count 32 px patches, at most 1536, times a factor.
    Unknown models count as gpt-4o. Source: OpenAI's vision guide.
    """
    name = model or ""
    factor = next((value for prefix, value in _PATCHES.items() if name.startswith(prefix)), None)
    if factor is not None:
        return math.ceil(min(math.ceil(width / 32) * math.ceil(height / 32), _MAX_PATCHES) * factor)
    if detail == "low":
        return LOW_DETAIL_TOKENS
    base, per_tile = next((value for prefix, value in _TILES.items() if name.startswith(prefix)), _TILES_OTHERWISE)
    scale = min(1, 2048 / max(width, height))
    scale *= min(1, 768 / (min(width, height) * scale))
    # A side that comes out as 512.0000001 is still one tile.
    across, down = (max(1, math.ceil(side * scale / 512 - 1e-9)) for side in (width, height))
    return base + per_tile * across * down


def example_tokens(
    messages: list[dict[str, Any]], model: str | None = None, sizes: Iterable[tuple[int, int]] = ()
) -> int:
    """Count the tokens of one well-formed example in training; the arguments are those of `talk`."""
    fixed, texts = talk(messages, model, sizes)
    return fixed + sum(map(count, texts))


def talk(messages: list[dict[str, Any]], model: str | None = None, sizes: Iterable[tuple[int, int]] = ()) -> Talk:
    """Take apart what is counted in one well-formed example.

    Args:
        messages: In the chat format; calls of functions are counted by their names and arguments.
        model: Decides what images cost.
        sizes: Width and height of the images in the order of the messages; where they run out, 1024 x 1024 is assumed.
    """
    fixed, texts = PER_ANSWER, []
    remaining = iter(sizes)
    for message in messages:
        content = message.get("content")
        fixed += PER_MESSAGE + _count_repeated(message["role"])
        if type(content) is str:
            texts.append(content)
        else:
            for part in content or ():
                if part["type"] == "image_url":
                    width, height = next(remaining, ASSUMED_SIZE)
                    fixed += image_tokens(model, part["image_url"].get("detail", "auto"), width, height)
                else:
                    texts.append(part[part["type"]])
        if len(message) > 2:
            fixed += PER_NAME if message.get("name") else 0
            texts += _extra_texts(message)
    return fixed, texts


def _extra_texts(message: dict[str, Any]) -> list[str]:
    texts = [message["name"]] if message.get("name") else []
    calls = [message[key] for key in ("tool_calls", "function_call") if message.get(key)]
    return texts + [orjson.dumps(call).decode() for call in calls]
