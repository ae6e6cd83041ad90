"""The labelled training examples that are most like a question: what a few-shot prompt shows first.

Only the training split is looked at, and never an example of the question's own group: what is known of a patient or a
panel says nothing of others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from finetune_assets.dataset.features import features_of
from finetune_assets.dataset.table import Table, records
from finetune_assets.errors import EvaluationError

COLUMNS = ("example_id", "split", "group", "question", "answer", "image", "image_sha256", "image_bytes",
           "image_modified_ns", "image_width", "image_height", "image_format", "image_fit", "image_original",
           "pictures")  # fmt: skip
MAX_SEARCHED = 4_000
"""Training examples looked at, drawn by hash, where the region has more; a picture takes milliseconds to decode."""
_AT_ONCE = 256
"""Questions whose distances to all training examples are in memory."""
_FEWEST = 2
"""Training examples that features can be fitted on."""


def nearest(clean: Table, questions: pd.DataFrame, k: int) -> dict[str, list[dict[str, Any]]]:
    """Return the k training examples nearest to each question by its id, the most alike last, beside the question.

    Args:
        clean: `filtered_qa` of the region.
        questions: Rows of it that are asked.
        k: How many; fewer where all others are of the question's own group.

    Raises:
        EvaluationError: there are no training examples that could be told apart.
    """
    train = _drawn(clean.frame(COLUMNS, split="train"))
    asked = questions.reindex(columns=list(COLUMNS)).reset_index(drop=True)
    if len(train) < _FEWEST:
        raise EvaluationError(f"few_shot needs {_FEWEST} training examples or more, got {len(train)}")
    both = pd.concat([train, asked], ignore_index=True)
    features = features_of(both, np.arange(len(both)) < len(train))
    if features is None:
        raise EvaluationError("few_shot cannot say which examples are alike: all ask the same, without images")
    shown, ids = records(train), asked["example_id"].tolist()
    known, others = train["group"].to_numpy(object), asked["group"].to_numpy(object)
    found: dict[str, list[dict[str, Any]]] = {}
    for number, far in enumerate(_distances(features[: len(train)], features[len(train) :])):
        # A missing group equals nothing, as in the splits.
        far[known == others[number]] = np.inf
        order = np.argsort(far, kind="stable")[:k]
        found[ids[number]] = [shown[at] for at in reversed(order.tolist()) if np.isfinite(far[at])]
    return found


def _drawn(train: pd.DataFrame) -> pd.DataFrame:
    if len(train) <= MAX_SEARCHED:
        return train
    keys = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in train["example_id"]]
    chosen = np.sort(np.argsort(np.array(keys), kind="stable")[:MAX_SEARCHED])
    return train.iloc[chosen].reset_index(drop=True)


def _distances(known: Any, asked: Any) -> Iterator[np.ndarray]:
    """Yield the squared distances of each row of `asked` [m x d] to those of `known` [n x d], [n]."""
    squares = np.asarray(known.multiply(known).sum(axis=1)).ravel()
    for start in range(0, asked.shape[0], _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        own = np.asarray(some.multiply(some).sum(axis=1))
        yield from squares + own - 2 * np.asarray((some @ known.T).todense())
