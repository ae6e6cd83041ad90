"""Questions that are the same but for how they are put down: punctuation, letter case, spaces, contractions, articles.

`What's the capital of X ?` asks what `What is the capital of X?` asks. Everything else makes another question: numbers
and names of course, but also the order of words, and any word that carries sense; typing errors among them, because no
rule tells `nitrate` from a misspelt `nitrite`. Texts in which signs carry the sense, as code and formulas, are the same
only where they are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from unicodedata import normalize

from finetune_assets.training_file.example import Example
from finetune_assets.training_file.messages import Message

_MEANT_AS_WRITTEN = re.compile(r"[`{}<>=\\|^~_]|\w\(|['\"\u2018\u201c](?:\w|[^\w\s]+)['\"\u2019\u201d]")
"""Signs of code and formulas, and quoted letters and signs."""
_APOSTROPHES = str.maketrans("\u2019\u2018\u00b4\u02bc", "''''")
_CONTRACTIONS = (
    (re.compile(r"\b(?:can't|cannot)\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\b(what|who|where|when|why|how|that|there)'?s\b"), r"\1 is"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"\bi'm\b"), "i am"),
)
_PUNCTUATION = (
    r".,;:!?'\"()\[\]\u2026\u2018-\u201f\u2010-\u2015\u2212\u00ab\u00bb\u00bf\u00a1"
    r"\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f-"
)
_WORDS = re.compile(
    r"(?<![\w)])[-+\u2212](?=\d)"  # the sign of a number
    r"|\d(?:\w|(?<=\d)[.,:/\u2013-](?=\d))*"  # a number, a date, a range
    rf"|[^\W\d]\w*|[^\w\s{_PUNCTUATION}]"
)
_EMPTY = frozenset({"a", "an", "the", "please"})
_FEWEST_LETTERS = 4


def near_key(example: Example, shown: Iterable[int]) -> int | None:
    """Hash what a well-formed example asks, the same for questions that are the same but for how they are put down.

    Args:
        example: Of which the last answer does not count.
        shown: The keys of its images.

    Returns:
        None where only an equal text would be the same.
    """
    messages = example.messages
    asked = messages[:-1] if messages[-1].role == "assistant" else messages
    if not asked or any(message.calls or message.role in ("tool", "function") for message in asked):
        return None
    said = [_plainest(message) for message in asked]
    if None in said:
        return None
    return hash((tuple(said), tuple(shown), bool(example.outputs), example.tools.key))


def _plainest(message: Message) -> tuple[str, tuple[str, ...]] | None:
    words: list[str] = []
    for text in message.texts:
        if _MEANT_AS_WRITTEN.search(text):
            return None
        words += plainest_words(text)
    if message.texts and sum(map(len, words)) < _FEWEST_LETTERS:
        return None
    return message.role, tuple(words)


def plainest_words(text: str) -> list[str]:
    """The words and numbers of a text in their order, without what only puts them down."""
    plain = normalize("NFC", text).translate(_APOSTROPHES).casefold()
    for pattern, full in _CONTRACTIONS:
        plain = pattern.sub(full, plain)
    words = _WORDS.findall(plain)
    return [word for word in words if word not in _EMPTY] or words
