"""Examples that ask the same of the same image: duplicates and contradictions, found by hashes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finetune_assets.dataset.shown import seen_sha256
from finetune_assets.dataset.table import hashes, records

_ASKED = ["image_sha256", "system", "question"]


def asked_key(chunk: pd.DataFrame) -> np.ndarray:
    """Hash what each row asks, 64 bits: image, system message and question; white space does not count.

    Letter case does: whether 'A' lies left of 'b' is another question than whether 'a' lies left of 'B'.
    """
    texts = {name: _as_compared(chunk[name]) for name in ("system", "question") if name in chunk}
    if "pictures" in chunk and chunk["pictures"].notna().to_numpy().any():
        texts["image_sha256"] = [seen_sha256(row) for row in records(chunk.filter(["pictures", "image_sha256"]))]
    return hashes(chunk.filter(_ASKED).assign(**texts))


def answer_key(chunk: pd.DataFrame) -> np.ndarray:
    """Hash each row's answer, 64 bits; white space does not count, letter case does: CO is not Co."""
    return hashes(pd.DataFrame({"answer": _as_compared(chunk["answer"])}))


def _as_compared(texts: Any) -> Any:
    return texts.fillna("").str.normalize("NFC").str.replace(r"\s+", " ", regex=True).str.strip()


@dataclass(frozen=True, slots=True)
class Repeats:
    """Which rows repeat others, arrays of [n] with one entry for each row of the table; -1 stands for none."""

    duplicate_of: np.ndarray
    """The first row that asks and answers the same, for the later ones."""
    contradicts: np.ndarray
    """For each row of a contradiction, the first row that asks the same."""
    opposed_by: np.ndarray
    """And the first that answers otherwise."""


def repeats(asked: np.ndarray, answers: np.ndarray, candidates: np.ndarray, decided: np.ndarray) -> Repeats:
    """Compare rows by their keys. A contradiction has no duplicates: none of its rows stays.

    A row that a reviewer decided is contradicted by none that was not: these are set aside alone.

    Args:
        asked: `asked_key` of each row, [n].
        answers: `answer_key` of each row, [n].
        candidates: Numbers of the rows to compare, ascending.
        decided: Whether a reviewer decided about each row, [n].
    """
    candidates = _asked_again(asked, candidates)
    overruled, by = _overruled(asked, answers, candidates, decided)
    candidates = np.setdiff1d(candidates, overruled, assume_unique=True)
    _, firsts, group = np.unique(asked[candidates], return_index=True, return_inverse=True)
    first = candidates[firsts]
    differs = answers[candidates] != answers[first[group]]
    opposing = np.full(len(first), len(asked))
    np.minimum.at(opposing, group[differs], candidates[differs])
    opposed = opposing[group] < len(asked)
    result = Repeats(*(np.full(len(asked), -1, np.int32) for _ in range(3)))
    later = ~opposed & (candidates != first[group])
    result.duplicate_of[candidates[later]] = first[group[later]]
    result.contradicts[candidates[opposed]] = first[group[opposed]]
    result.opposed_by[candidates[opposed]] = opposing[group[opposed]]
    result.contradicts[overruled], result.opposed_by[overruled] = by, overruled
    return result


def _overruled(
    asked: np.ndarray, answers: np.ndarray, candidates: np.ndarray, decided: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that answer otherwise than a decided row which asks the same, [m], and that row of each, [m]."""
    settled, others = candidates[decided[candidates]], candidates[~decided[candidates]]
    if not len(settled):
        return settled, settled
    keys, firsts = np.unique(asked[settled], return_index=True)
    places = np.searchsorted(keys, asked[others]).clip(max=len(keys) - 1)
    by = settled[firsts][places]
    differs = (asked[by] == asked[others]) & (answers[by] != answers[others])
    return others[differs], by[differs]


def _asked_again(asked: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the candidates that share their key with another: few, so that all else takes little memory."""
    keys = asked[candidates]
    order = np.argsort(keys)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    shared = np.zeros(len(candidates), bool)
    shared[order[1:][same]] = shared[order[:-1][same]] = True
    return candidates[shared]
