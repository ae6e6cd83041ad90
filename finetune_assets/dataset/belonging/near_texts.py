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
_ASCII_PARTS = re.compile(r"[a-z]+|[0-9]+(?:[.,][0-9]+)*|[+*/=<>%^~@#$]|-(?=[0-9])")
"""What `_PARTS` finds in small letters of ASCII alone, in a tenth of the time."""
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


def text_key(question: str, system: str | None) -> int:
    """Hash what a text says, 64 bits: the same for texts that are near-equal; `UNKNOWN` for a text without words."""
    words = [*_words(question), *(("\0", *_instruction(system)) if system else ())]
    if not words:
        return int(UNKNOWN)
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=8).digest(), "big")


@lru_cache(64)
def _instruction(system: str) -> tuple[str, ...]:
    return tuple(_words(system))


def _words(text: str) -> list[str]:
    if text.isascii():
        parts = _ASCII_PARTS.findall(text.replace("`", "'").lower().replace("n't", " not"))
    else:
        plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold().replace("n't", " not")
        parts = _PARTS.findall(plain)
    telling = [
        part[:-1] if part[-1] == "s" and len(part) >= _PLURAL_FROM and part[-2] != "s" else part
        for part in parts
        if part not in _FUNCTION_WORDS
    ]
    return sorted(telling or parts)
