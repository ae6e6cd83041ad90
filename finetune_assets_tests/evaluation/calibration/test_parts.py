"""Calibrated probabilities are judged of every option and in every subgroup, and many parts are many chances."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.calibration.parts import by_option, by_subgroup, of_options
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.recalibration import recalibrate
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets_tests.evaluation.predictions import prediction

OPTIONS = ("red", "green", "blue")
AS_IT_IS = PlattCalibrator(kind="choice", model="m", fingerprint="", n=100, n_positive=50, slope=1.0, intercept=0.0)


def draw(n: int, seed: int, too_sure: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, what happened, and groups of one."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1.5, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)
    return 1 / (1 + np.exp(-too_sure * odds)), y, np.arange(n).astype(object)


def chosen(n: int, seed: int, **skewed: float) -> list[Prediction]:
    """Choices by probabilities that mean what they say, but for options whose share is skewed."""
    rng, rows = np.random.default_rng(seed), []
    for k in range(n):
        p = rng.dirichlet([1, 1, 1])
        truth = OPTIONS[rng.choice(3, p=p)]
        claimed = np.array([p[i] * skewed.get(name, 1.0) for i, name in enumerate(OPTIONS)])
        claimed /= claimed.sum()
        told = dict(zip(OPTIONS, claimed.tolist(), strict=True))
        said = OPTIONS[int(claimed.argmax())]
        rows.append(prediction(truth, said, group=f"g{k}", probabilities=json.dumps(told), p_predicted=told[said]))
    return rows


def test_a_subgroup_that_is_too_sure_is_named_and_the_others_are_not() -> None:
    parts = [draw(400, 0), draw(300, 1, too_sure=3.0), draw(200, 2)]
    p, y, _ = (np.concatenate(each) for each in zip(*parts, strict=True))
    groups, named = np.arange(900).astype(object), np.repeat(np.array(["a", "b", "c"], dtype=object), [400, 300, 200])
    found = by_subgroup(p, y, groups, named)
    assert [(part.name, part.n, part.is_off) for part in found] == [
        ("a", 400, False), ("b", 300, True), ("c", 200, False),
    ]  # fmt: skip
    assert found[1].p_value == pytest.approx(3 * (recalibrate(*parts[1]).p_value or 0))
    assert found[1].claimed == pytest.approx(parts[1][0].mean())
    assert found[1].happened.estimate == pytest.approx(parts[1][1].mean())


def test_parts_that_are_all_or_of_one_group_or_hold_too_few_events_are_not_tested() -> None:
    p, y, groups = draw(60, 3)
    assert by_subgroup(p, y, groups, np.full(60, "all", dtype=object)) == ()
    named = np.array(["big"] * 40 + ["one group"] * 14 + ["few"] * 6, dtype=object)
    members = np.where(named == "one group", "same", groups.astype(str)).astype(object)
    found = by_subgroup(p, y, members, named)
    assert [part.name for part in found] == ["big", "few"] and found[1].p_value is None and not found[1].is_off


def test_every_option_is_judged_against_all_others() -> None:
    honest = by_option(chosen(600, 4), OPTIONS, AS_IT_IS)
    assert [part.name for part in honest] == list(OPTIONS) and not any(part.is_off for part in honest)
    assert sum(part.claimed for part in honest) == pytest.approx(1)
    assert sum(part.happened.estimate for part in honest) == pytest.approx(1)
    skewed = {part.name: part for part in by_option(chosen(600, 5, blue=3.0), OPTIONS, AS_IT_IS)}
    assert skewed["blue"].is_off and skewed["blue"].claimed > skewed["blue"].happened.high
    assert by_option([prediction("red", "red")], OPTIONS, AS_IT_IS) == ()


def test_equally_good_options_are_seldom_called_off() -> None:
    off = [any(part.is_off for part in by_option(chosen(150, 100 + seed), OPTIONS, AS_IT_IS)) for seed in range(25)]
    assert sum(off) <= 4  # 5 % of 25, and chance


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.integers(0, 5))
def test_probabilities_of_options_add_up_to_one(weights: list[float], at: int) -> None:
    total = sum(weights)
    given_ = {f"o{k}": (w / total if total > 0 else 1 / len(weights)) for k, w in enumerate(weights)}
    predicted = f"o{at % len(weights)}"
    found = of_options(AS_IT_IS, predicted, given_)
    assert sum(found.values()) == pytest.approx(1) and all(0 <= p <= 1 for p in found.values())
    assert found[predicted] == pytest.approx(float(AS_IT_IS.apply([given_[predicted]])[0]))
