"""How many tokens a provider counts, without asking it.

Text is counted exactly in o200k_base (gpt-4o, gpt-4.1 and later). Around it come OpenAI's fixed costs: 3 tokens
a message besides its role, and 3 that open the answer (OpenAI cookbook, "How to count tokens with tiktoken").
Images cost what their model asks for (`image_cost`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from typing import Any

from finetune_assets.training_file.image_cost import Patches, Tiles, image_cost
from finetune_assets.training_file.messages import Message, read_messages

PER_MESSAGE = 3
PER_NAME = 1
PER_ANSWER = 3
PER_CALL = 3
"""What a call costs besides its name and arguments: an estimate, as is that of the functions (`tool_tokens`)."""
ASSUMED_SIZE = (1024, 1024)
"""Width and height of an image behind a URL, which is not fetched to be counted."""
Talk = tuple[int, list[str]]
"""The tokens of a conversation besides its texts, and its texts."""
_SHORT = 1_000
_UNKNOWN = 1 << 40
"""More than the tokens of any text, so that a sum says whether it holds one."""
_LONGEST_WORD = 32
_MAX_WORDS = 100_000
"""Words that are remembered: some 20 MB."""


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


def example_tokens(
    messages: list[dict[str, Any]], model: str | None = None, sizes: Iterable[tuple[int, int]] = ()
) -> int:
    """Count the tokens of one well-formed example in training, written as in a file.

    Args:
        messages: In the chat format.
        model: Decides what images cost.
        sizes: As in `talk`.
    """
    fixed, texts = talk(read_messages("messages", messages, []), image_cost(model or ""), sizes)
    return fixed + sum(map(count, texts))


def talk(messages: Sequence[Message], images: Tiles | Patches, sizes: Iterable[tuple[int, int]] = ()) -> Talk:
    """Take apart what is counted in one well-formed example.

    Args:
        messages: Calls of functions are counted by their names and arguments.
        images: What an image costs.
        sizes: Width and height of the images in the order of the messages; where they run out, 1024 x 1024 is assumed.
    """
    fixed, texts = PER_ANSWER, []
    remaining = iter(sizes)
    for role, said, shown, calls, name, *_ in messages:
        fixed += PER_MESSAGE + _count_repeated(role)
        texts += said
        for image in shown:
            fixed += images.tokens(image.detail, *next(remaining, ASSUMED_SIZE))
        if name is not None:
            fixed += PER_NAME
            texts.append(name)
        for call in calls:
            fixed += PER_CALL
            texts += (call.name, call.arguments)
    return fixed, texts
