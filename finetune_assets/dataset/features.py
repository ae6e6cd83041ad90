"""What examples look like in numbers: TF-IDF weights of the text, and principal components of a small grey picture.

They need no model and no network. Fitted on the training examples, they tell nothing of the others' answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from finetune_assets.dataset import images
from finetune_assets.errors import ImageError

_MAX_COMPONENTS = 64
_EXAMPLES_PER_COMPONENT = 8


def features_of(examples: pd.DataFrame, training: np.ndarray) -> Any:
    """Return a row of numbers for each example [n x d], sparse; None where all are alike.

    Args:
        examples: Columns `question` and `image`, [n].
        training: Whether each trains: on these alone the features are fitted, [n].
    """
    from scipy.sparse import csr_matrix, hstack
    from sklearn.decomposition import PCA
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts: list[Any] = []
    texts = examples["question"].fillna("")
    if len(set(texts)) > 1:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=50_000, sublinear_tf=True)
        try:
            words.fit(texts[training])
        except ValueError:
            # No word is left: the questions are numbers or signs.
            words = None
        if words is not None:
            parts.append(words.transform(texts))
    if len(examples["image"].dropna()):
        pixels = np.empty((len(examples), images.THUMBNAIL_SIDE**2), np.float32)
        for place, thumbnail in enumerate(_thumbnails(examples["image"].tolist())):
            pixels[place] = thumbnail
        components = PCA(max(1, min(_MAX_COMPONENTS, int(training.sum()) // _EXAMPLES_PER_COMPONENT)), random_state=0)
        components.fit(pixels[training])
        shown = components.transform(pixels)
        parts.append(csr_matrix(shown / (shown[training].std() or 1)))
    return hstack(parts, format="csr") if parts else None


def _thumbnails(paths: Sequence[object]) -> Iterator[np.ndarray]:
    """Grey pixels from -1 to 1 of each image, [1024]; zeros without one."""
    side = images.THUMBNAIL_SIDE
    for path in paths:
        try:
            seen = images.inspect(images.read(path)).thumbnail if isinstance(path, str) else None
        except ImageError:
            # It vanished since it was sampled, which building the file will report.
            seen = None
        pixels = np.zeros(side * side) if seen is None else np.frombuffer(seen, np.uint8) / 127.5 - 1
        yield pixels.astype(np.float32)
