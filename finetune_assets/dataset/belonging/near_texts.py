"""Texts that say the same: `What is the capital of X?`, `what's the capital of X` and `Capital of X`.

Two texts are near-equal where the same words and numbers are left of them without those that only make a sentence of
them: letter case, punctuation, the order and the function words of five languages do not count. Two texts taken for one
leak nothing, so this may be coarse; what it cannot see is a question asked in other words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

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


def text_keys(questions: Sequence[str], systems: Sequence[str | None]) -> np.ndarray:
    """Hash what texts say, 64 bits each, [n]: the same for texts that are near-equal; `UNKNOWN` for one without words.

    Words are hashed by themselves and their hashes added up, so that neither their order counts nor has to be found.
    """
    said = _said(questions)
    instructions = list(dict.fromkeys(filter(None, systems)))
    if instructions:
        meant = dict(zip(instructions, 3 * _said(instructions) + np.uint64(1), strict=True))
        said += np.array([meant[system] if system else 0 for system in systems], np.uint64)
    return said


def _said(texts: Sequence[str]) -> np.ndarray:
    """Add up the hashes of the words that tell each text apart; of all its words where none does."""
    import pyarrow
    import pyarrow.compute

    folded = [text.lower() if text.isascii() else _folded(text) for text in texts]
    tokens = pyarrow.compute.utf8_split_whitespace(pyarrow.array(folded, pyarrow.string()))  # pyright: ignore
    # Each of the few thousand words of a chunk is looked up once.
    words = tokens.flatten().dictionary_encode()
    hashes = np.array([_TELLING[word] for word in words.dictionary.to_pylist()], np.uint64)
    ends = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(hashes[words.indices.to_numpy()], out=ends[1:])
    offsets = tokens.offsets.to_numpy()
    said = ends[offsets[1:]] - ends[offsets[:-1]]
    for at in np.flatnonzero(said == 0):
        said[at] = sum(map(_hashed, map(_parts, folded[at].split()))) & _MASK
    return said


def _folded(text: str) -> str:
    # A text may hold half a character, which no encoding has.
    whole = text.encode("utf-8", "replace").decode()
    return unicodedata.normalize("NFKC", whole).translate(_APOSTROPHES).casefold().lower()


class _Telling(dict[str, int]):
    """The hash of what tells apart in each token, remembered: most texts are made of the same few thousand."""

    def __missing__(self, token: str) -> int:
        found = _hashed([part for part in _parts(token) if part not in _FUNCTION_WORDS]) & _MASK
        if len(self) < _REMEMBERED and not token[-1:].isdigit():
            self[token] = found
        return found


_TELLING = _Telling()


def _parts(token: str) -> list[str]:
    word = token.rstrip(".,:;?!")
    if word.isascii() and (word.isalpha() or word.isdigit()):
        return [word]
    return _PARTS.findall(token.replace("`", "'").replace("n't", " not"))


def _hashed(words: list[str]) -> int:
    return sum([int.from_bytes(blake2b(_singular(word).encode(), digest_size=8).digest(), "big") for word in words])


def _singular(word: str) -> str:
    return word[:-1] if len(word) >= _PLURAL_FROM and word[-1] == "s" and word[-2] != "s" else word
