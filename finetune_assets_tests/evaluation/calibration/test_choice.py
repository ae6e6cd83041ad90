"""Which calibrator is chosen, and that the choice is made inside the calibration split, by whole groups."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from finetune_assets.evaluation.calibration import load
from finetune_assets.evaluation.calibration.choice import METHODS, N_FOLDS, choose
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.reliability import log_loss
from finetune_assets_tests.evaluation.calibration.test_platt import oversure


def one_sided(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure of the event and not of its absence: a curve of beta's family."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.5, 0.5, n)
    return p, (rng.random(n) < expit(0.2 * np.log(p) - 2 * np.log1p(-p) - 1)).astype(int)


def steps(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of which only the third that they lie in says anything."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, (rng.random(n) < np.array([0.05, 0.85, 0.95])[np.minimum((p * 3).astype(int), 2)]).astype(int)


@pytest.mark.parametrize(("draw", "method"), [(one_sided, "beta"), (steps, "isotonic")])
def test_with_much_data_the_method_whose_curve_fits_is_chosen(draw, method: str) -> None:  # noqa: ANN001
    p, y = draw(1, 3000)
    chosen = choose(p, y, model="ft:m")
    assert chosen.method == method
    losses = chosen.held_out_log_loss or {}
    assert set(losses) == {each.method for each in METHODS}
    assert losses[method] == min(losses.values())
    fresh_p, fresh_y = draw(2, 3000)
    platt = PlattCalibrator.fit(p, y, model="ft:m")
    assert log_loss(chosen.apply(fresh_p), fresh_y) < log_loss(platt.apply(fresh_p), fresh_y)


def test_where_platt_is_right_it_nearly_always_stays() -> None:
    rng = np.random.default_rng(3)
    stays = 0
    for _ in range(12):
        logits = rng.normal(1, 1.5, 200)
        y = rng.random(200) < expit(0.6 * logits - 0.8)
        stays += choose(expit(logits), y, model="ft:m").method == "platt"
    assert stays >= 9


@pytest.mark.parametrize("n", [2, 10, 49])
def test_with_little_data_there_is_no_choice(n: int) -> None:
    chosen = choose(*one_sided(4, n), model="ft:m")
    assert (chosen.method, chosen.held_out_log_loss) == ("platt", None)
    assert f"{n} examples" in (chosen.warning or "")


def test_copies_of_an_example_make_no_method_look_better_than_it_is() -> None:
    p, y = steps(5, 60)
    copied = choose(np.repeat(p, 30), np.repeat(y, 30), np.repeat(np.arange(60), 30), model="ft:m")
    as_if_new = choose(np.repeat(p, 30), np.repeat(y, 30), model="ft:m")
    assert as_if_new.method == "isotonic"
    assert (copied.held_out_log_loss or {})["isotonic"] > (as_if_new.held_out_log_loss or {})["isotonic"] + 0.05


def test_the_chosen_one_is_fitted_on_all_examples_and_survives_json() -> None:
    p, y = one_sided(6, 1000)
    chosen = choose(p, y, model="ft:m", kind="choice")
    assert (chosen.n, chosen.n_positive, chosen.kind) == (1000, y.sum(), "choice")
    assert chosen.fingerprint == PlattCalibrator.fit(p, y, model="ft:m").fingerprint
    assert load(json.loads(json.dumps(chosen.to_dict()))) == chosen


def test_the_same_data_give_the_same_choice() -> None:
    p, y = oversure(7, 200)
    assert choose(p, y, model="ft:m") == choose(p, y, model="ft:m")


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(0, N_FOLDS + 1)), min_size=50, max_size=70))
@settings(max_examples=15, deadline=None)
def test_any_data_get_a_calibrator(rows: list[tuple[float, bool, int]]) -> None:
    p, y, groups = zip(*rows, strict=True)
    calibrated = choose(p, y, groups, model="ft:m").apply(p)
    assert np.all((calibrated > 0) & (calibrated < 1))
