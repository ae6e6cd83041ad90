"""The first examples that reviewers see are uncertain, and unlike each other."""

import numpy as np
from scipy.sparse import csr_matrix

from finetune_assets.dataset.teaching_order import N_SPREAD, teaching_order


def test_a_hundred_versions_of_the_most_uncertain_example_come_once() -> None:
    corners = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    features = np.concatenate([np.zeros((100, 2)), corners[1:]])
    uncertainty = np.concatenate([np.linspace(0.5, 0.4, 100), [0.2, 0.2, 0.3]])
    places = teaching_order(features, uncertainty)
    assert places[0] == 0 and sorted(np.argsort(np.where(places < 0, 999, places))[:4].tolist()) == [0, 100, 101, 102]


def test_of_examples_equally_far_apart_the_uncertain_one_comes_first() -> None:
    places = teaching_order(np.eye(5), np.array([0.1, 0.5, 0.3, 0.4, 0.2]))
    assert places.tolist() == [4, 0, 2, 1, 3]


def test_sparse_features_give_the_same_order_and_only_the_first_ones_have_a_place() -> None:
    rng = np.random.default_rng(0)
    features, uncertainty = rng.normal(size=(500, 8)), rng.random(500)
    dense, sparse = (teaching_order(kind, uncertainty) for kind in (features, csr_matrix(features)))
    assert dense.tolist() == sparse.tolist()
    assert sorted(dense[dense >= 0].tolist()) == list(range(N_SPREAD))
    assert len(teaching_order(np.zeros((0, 3)), np.zeros(0))) == 0
