"""Which training examples reviewers are asked about first: those a model is unsure of, and that are unlike each other.

By uncertainty alone the first hundred may be one picture in a hundred versions, whose answers teach one thing. So each
of the first ones is the one with the largest product of uncertainty and distance to the nearest that was chosen before
(farthest-point sampling; Gonzalez 1985).
"""

from __future__ import annotations

from typing import Any

import numpy as np

N_SPREAD = 200
"""Examples chosen so, about a day's work; the others follow by uncertainty alone."""


def teaching_order(features: Any, uncertainty: np.ndarray) -> np.ndarray:
    """Return the place of each of the first `N_SPREAD` examples, from 0, and -1 of all others, [n].

    Args:
        features: A row for each example, dense or sparse, [n x d].
        uncertainty: 0 where the model is sure, larger where it is not, [n].
    """
    from scipy.sparse import csr_matrix

    rows: Any = csr_matrix(features)
    places, n = np.full(len(uncertainty), -1), min(N_SPREAD, len(uncertainty))
    squares = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
    distance = np.full(len(uncertainty), np.inf)
    for place in range(n):
        # The first one is the most uncertain; one that is like another, and all that are sure, come last.
        worth = uncertainty if place == 0 else uncertainty * distance
        chosen = int(np.where(places < 0, worth, -1.0).argmax())
        places[chosen] = place
        products = np.asarray((rows @ rows[chosen].T).todense()).ravel()
        distance = np.minimum(distance, np.sqrt(np.maximum(0.0, squares + squares[chosen] - 2 * products)))
    return places
