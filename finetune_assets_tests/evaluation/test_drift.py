"""Drift is named where what is asked in use is shown to look otherwise, and by as much as matters."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from finetune_assets.dataset.images import inspect
from finetune_assets.evaluation.drift import (
    MIN_ASKED,
    MODERATE,
    Feature,
    Reference,
    compare,
    features_of,
    features_of_answer,
    stability_index,
)
from finetune_assets_tests.dataset.pictures import picture

values = st.lists(st.floats(-1e6, 1e6) | st.integers(0, 3).map(float), min_size=1, max_size=60)


def reference(found: Sequence[float | str], groups: Sequence[str] | None = None) -> Reference:
    return Reference.of([{"score": one} for one in found], groups or [str(n) for n in range(len(found))])


def asked(of: Reference, found: Sequence[float | str]) -> dict[str, dict[int, int]]:
    return {"score": dict(Counter(of.places({"score": one})["score"] for one in found))}


def test_the_index_is_the_sum_of_differences_times_logarithms_of_ratios() -> None:
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    expected = -0.25 * math.log(0.25 / 0.5) + 0.25 * math.log(0.75 / 0.5)
    assert stability_index(1e9 * p, 1e9 * q) == pytest.approx(expected, rel=1e-6)


def test_the_test_is_pearsons_where_no_cell_is_small() -> None:
    rng = np.random.default_rng(0)
    known = reference(rng.normal(size=500).tolist())
    counts = asked(known, rng.normal(0.2, size=300).tolist())
    [shift] = compare(known, counts)
    table = [known.features["score"].counts, [counts["score"].get(place, 0) for place in range(10)]]
    assert shift.p_value == pytest.approx(chi2_contingency(table, correction=False).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    assert (shift.n_reference, shift.n_asked) == (500, 300)


def test_words_of_which_some_are_rare_are_tested_by_simulation() -> None:
    known = reference(["Yes"] * 97 + ["No"] * 3)
    [same] = compare(known, asked(known, ["Yes"] * 39 + ["No"]))
    [other] = compare(known, asked(known, ["Yes"] * 25 + ["No"] * 5 + ["(unreadable)"] * 10))
    assert same.p_value > 0.5 and not same.is_drift
    assert other.is_drift and "the model's own score: stability index" in str(other)


def test_what_is_not_shifted_is_seldom_named_and_what_is_nearly_always() -> None:
    rng, named = np.random.default_rng(1), Counter[str]()
    for _ in range(50):
        known = reference(rng.beta(2, 1, size=400).tolist())
        for how, drawn in (("same", rng.beta(2, 1, size=300)), ("shifted", rng.beta(1.2, 1.2, size=300))):
            named[how] += compare(known, asked(known, drawn.tolist()))[0].is_drift
    assert named["same"] <= 4  # at most 5 % and chance; the least index makes it fewer
    assert named["shifted"] >= 49


def test_the_indexs_interval_holds_the_true_one() -> None:
    rng, held, n = np.random.default_rng(2), 0, 100
    shares = np.full(10, 0.1), np.array([0.02, 0.05, 0.08, 0.1, 0.1, 0.1, 0.1, 0.12, 0.15, 0.18])
    true = float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))
    for _ in range(n):
        counts = rng.multinomial(600, shares[0]), rng.multinomial(400, shares[1])
        feature = Feature(tuple(float(edge) for edge in range(9)), None, tuple(counts[0].tolist()), 1.0)
        [shift] = compare(Reference(600, {"score": feature}), {"score": dict(enumerate(counts[1].tolist()))})
        held += shift.index.low <= true <= shift.index.high
    assert held >= 0.91 * n


def test_examples_that_share_groups_count_for_less() -> None:
    rng = np.random.default_rng(3)
    panels = rng.normal(size=20)
    found = list(chain.from_iterable([value] * 20 for value in panels))
    members = [str(n // 20) for n in range(400)]
    alone, together = reference(found), reference(found, members)
    drawn = rng.normal(size=300).tolist()
    assert together.features["score"].effect == pytest.approx(20, rel=0.1)
    [liberal], [honest] = (compare(known, asked(known, drawn)) for known in (alone, together))
    assert liberal.p_value < 0.001 < honest.p_value and not honest.is_drift


def test_many_features_are_many_chances_to_be_wrong() -> None:
    rng = np.random.default_rng(4)
    rows = [{f"f{k}": float(value) for k, value in enumerate(row)} for row in rng.normal(size=(400, 6))]
    known, shifts = Reference.of(rows, [str(n) for n in range(400)]), []
    for name in known.features:
        drawn = rng.normal(0.18, size=200).tolist()
        shifts.append((name, Counter(known.places({name: value})[name] for value in drawn)))
    together = {shift.feature: shift.p_value for shift in compare(known, dict(shifts))}
    by_itself = [compare(Reference(400, {name: known.features[name]}), {name: counts})[0] for name, counts in shifts]
    smallest = min(by_itself, key=lambda shift: shift.p_value)
    assert together[smallest.feature] == pytest.approx(min(1, 6 * smallest.p_value))


def test_of_few_questions_nothing_is_said() -> None:
    known = reference(["Yes"] * 50 + ["No"] * 50)
    assert compare(known, asked(known, ["No"] * (MIN_ASKED - 1))) == [] == compare(known, {})


@given(values, st.floats(allow_nan=False))
def test_every_value_has_a_bin_and_the_reference_is_json(found: list[float], other: float) -> None:
    known = reference(found)
    feature = known.features["score"]
    assert sum(feature.counts) == len(found) and len(feature.counts) == feature.n_bins
    assert 0 <= feature.place(other) < feature.n_bins
    assert Reference.from_dict(json.loads(json.dumps(known.to_dict()))) == known


def test_what_is_seen_of_a_question_tells_nobody_what_it_was() -> None:
    seen = features_of("Is this cell defective?", inspect(picture(size=(40, 20), shade=200)))
    assert seen["question_length"] == 23 and seen["image_pixels"] == 800 and seen["image_shape"] == 2
    assert seen["image_brightness"] == pytest.approx(200, abs=25)
    assert features_of_answer("Yes", 0.25, None) == {"answer": "Yes", "score": 0.25}
    assert features_of_answer(None, None, 3.5) == {"number": 3.5} and MODERATE == 0.1
