"""Agreement equals what other implementations find, and says so where there is nothing to find."""

from __future__ import annotations

import warnings

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from finetune_assets.feedback.store.agreement import Agreement, agreement, cohens_kappa, krippendorff_alpha
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets_tests.feedback.store.builders import TASK, does, offer_names

TABLE = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=2, max_size=12)


@settings(max_examples=60)
@given(TABLE, st.sampled_from(["nominal", "interval"]))
def test_alpha_equals_the_reference_implementation(units: list[list[int]], level: str) -> None:
    found = krippendorff_alpha([list(map(float, unit)) for unit in units], level)  # pyright: ignore[reportArgumentType]
    table = np.full((4, len(units)), np.nan)
    for column, unit in enumerate(units):
        table[: len(unit), column] = unit
    pairable = [value for unit in units if len(unit) > 1 for value in unit]
    if sum(len(unit) > 1 for unit in units) < 2 or len(set(pairable)) < 2:
        assert found is None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = krippendorff.alpha(table, level_of_measurement=level)  # pyright: ignore[reportArgumentType]
    assert found is not None
    assert found.value == pytest.approx(expected, abs=1e-9)


def test_alpha_of_the_published_example() -> None:
    """Krippendorff 2011, C: four observers, twelve units, missing values; nominal 0.743, interval 0.849."""
    observers = [
        "1 2 3 3 2 1 4 1 2 - - -",
        "1 2 3 3 2 2 4 1 2 5 - 3",
        "- 3 3 3 2 3 4 2 2 5 1 -",
        "1 2 3 3 2 4 4 1 2 5 1 -",
    ]
    columns = zip(*[row.split() for row in observers], strict=True)
    units = [[float(value) for value in unit if value != "-"] for unit in columns]
    nominal, interval = krippendorff_alpha(units, "nominal"), krippendorff_alpha(units, "interval")
    assert nominal is not None
    assert interval is not None
    assert (round(nominal.value, 3), round(interval.value, 3)) == (0.743, 0.849)
    assert nominal.low < nominal.value < nominal.high <= 1


def test_the_interval_of_alpha_holds_the_truth_about_as_often_as_it_says() -> None:
    """Two reviewers who each miss one in five of balanced answers: alpha is (0.68 - 0.5) / 0.5 = 0.36."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(60):
        truth = rng.integers(2, size=100)
        said = [np.where(rng.random(100) < 0.2, 1 - truth, truth).astype(float).tolist() for _ in range(2)]
        found = krippendorff_alpha(zip(*said, strict=True))
        assert found is not None
        held += found.low <= 0.36 <= found.high
    assert held >= 52, "of 60 at 95 %: fewer happen once in 200 such runs"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("xyz")), min_size=1, max_size=30))
def test_kappa_equals_scikit_learn(values: list[tuple[str, str]]) -> None:
    first, second = zip(*values, strict=True)
    found = cohens_kappa(values)
    if len({*first, *second}) < 2:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(cohen_kappa_score(first, second), nan_ok=True)


def test_agreement_compares_what_stands_in_a_region_or_in_all(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c d")
    offer_names(db, "e", region="poly")
    for name, other in (("a", "Yes"), ("b", "No"), ("c", "No")):
        does(db, "ann", "correct", name, "No" if name == "c" else "Yes")
        does(db, "bob", "correct", name, other)
    undone = does(db, "bob", "correct", "d", "No")
    does(db, "bob", "undo", "d", undoes=undone.number)
    does(db, "ann", "accept", "d", "Yes")
    for reviewer in ("ann", "cy"):
        does(db, reviewer, "reject", "e", region="poly")
    mono, everything = agreement(db, TASK, "mono"), agreement(db, TASK)
    assert (mono.n, mono.level, [(pair.reviewers, pair.n, pair.share) for pair in mono.pairs]) == (
        3,
        "nominal",
        [(("ann", "bob"), 3, pytest.approx(2 / 3))],
    )
    assert mono.alpha is not None
    assert mono.alpha.value == pytest.approx(1 - 5 * 2 / 18), "1 of 3 pairs differs; 9 of 15 pairs of any values do"
    assert mono.pairs[0].kappa is not None
    assert mono.pairs[0].kappa.value == pytest.approx(0.4)
    assert (everything.n, [pair.reviewers for pair in everything.pairs]) == (4, [("ann", "bob"), ("ann", "cy")])


def test_numbers_agree_the_better_the_nearer_they_are(db: FeedbackDatabase) -> None:
    offer_names(db, "a b c", kind="number", options=(), label="1")
    for name, first, second in (("a", "10", "10.5"), ("b", "20", "20"), ("c", "30", "$31.00")):
        does(db, "ann", "correct", name, first)
        does(db, "bob", "correct", name, second)
    does(db, "cy", "reject", "a")
    found = agreement(db, TASK)
    assert found.level == "interval"
    assert found.alpha is not None
    assert found.alpha.value > 0.99
    assert {pair.kappa for pair in found.pairs} == {None}


def test_without_two_opinions_there_is_nothing_to_compare(db: FeedbackDatabase) -> None:
    offer_names(db, "a")
    does(db, "ann", "accept", "a", "Yes")
    assert agreement(db, TASK) == Agreement(0, None, "nominal", ())
