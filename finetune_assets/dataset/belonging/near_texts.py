"""Texts that say the same: `What is the capital of X?`, `what's the capital of X` and `Capital of X`.

Two texts are near-equal where the same words and numbers are left of them without those that only make a sentence of
them: letter case, punctuation, the order and the function words of five languages do not count. Two texts taken for one
leak nothing, so this may be coarse; what it cannot see is a question asked in other words.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

from finetune_assets.dataset.belonging.groups import UNKNOWN

_PARTS = re.compile(r"[0-9]+(?:[.,][0-9]+)*|[^\W\d_]+|[+*/=<>%^~@#$€£°]|-(?=[0-9])|[^\W_]")
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u2018\u00b4`", "'"))
_SENTENCE_WORDS = (
    "a an the of is are was were be been am do does did s re ve ll it its that this these those there what which who "
    "whom whose where when how please can could would you tell me i my your give name state say explain describe to "
    "for in on at by with and or from as",
    "der die das den dem des ein eine einen einem einer eines ist sind war waren was welche welcher welches wer wie "
    "wo wann bitte von zu zum zur im am und oder mit für heißt nenne",
    "le la les l un une elle elles ils du de d est sont était qu que quel quelle quels quelles qui où quand comment et "
    "ou c ce",
    "el los las una unos unas es son era qué cuál cuáles quién dónde cuándo cómo del y o",
    "il lo gli sono cosa quale quali chi dove quando come di dei della e",
)
"""Of English, German, French, Spanish and Italian."""
_FUNCTION_WORDS = frozenset(word.casefold() for words in _SENTENCE_WORDS for word in words.split())
_PLURAL_FROM = 4
"""Letters from which on an s at a word's end is taken for a plural's."""
_REMEMBERED = 1 << 16
"""Tokens of texts."""
_MASK = (1 << 64) - 1


def text_key(question: str, system: str | None) -> int:
    """Hash what a text says, 64 bits: the same for texts that are near-equal; `UNKNOWN` for a text without words.

    Words are hashed by themselves and their hashes added up, so that neither their order counts nor has to be found.
    """
    said = _said(question)
    if system:
        said += 3 * _instruction(system) + 1
    return said & _MASK if said else int(UNKNOWN)


@lru_cache(64)
def _instruction(system: str) -> int:
    return _said(system)


def _said(text: str) -> int:
    """Add up the hashes of the words that tell a text apart; of all its words where none does."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    tokens = text.lower().split()
    return sum(map(_TELLING.__getitem__, tokens)) or sum(map(_hashed, map(_parts, tokens)))


class _Telling(dict[str, int]):
    """The hash of what tells apart in each token, remembered: most texts are made of the same few thousand."""

    def __missing__(self, token: str) -> int:
        found = _hashed([part for part in _parts(token) if part not in _FUNCTION_WORDS])
        if len(self) < _REMEMBERED:
            self[token] = found
        return found


_TELLING = _Telling()


def _parts(token: str) -> list[str]:
    word = token.rstrip(".,:;?!")
    if word.isascii() and (word.isalpha() or word.isdigit()):
        return [word]
    return _PARTS.findall(token.replace("`", "'").replace("n't", " not"))


def _hashed(words: list[str]) -> int:
    digests = [hashlib.blake2b(_singular(word).encode("utf-8", "replace"), digest_size=8).digest() for word in words]
    return sum([int.from_bytes(digest, "big") for digest in digests])


def _singular(word: str) -> str:
    return word[:-1] if len(word) >= _PLURAL_FROM and word[-1] == "s" and word[-2] != "s" else word
