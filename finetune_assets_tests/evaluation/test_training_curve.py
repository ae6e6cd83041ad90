"""Trainings that went well, and those that did not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from finetune_assets.evaluation.training_curve import MIN_STEPS, divergence, overfitting, too_short

NAN = float("nan")


def losses(
    train: Sequence[float] | np.ndarray,
    valid: Sequence[float] | np.ndarray | None = None,
    full: Sequence[float] | np.ndarray | None = None,
) -> pd.DataFrame:
    """A table of steps from 1 on."""
    absent = np.full(len(train), NAN)
    columns = {"train_loss": train, "valid_loss": valid, "full_valid_loss": full}
    filled = {name: absent if values is None else values for name, values in columns.items()}
    return pd.DataFrame({"step": np.arange(1, len(train) + 1), **filled})


def noisy(values: Sequence[float] | np.ndarray, seed: int, spread: float = 0.5) -> np.ndarray:
    """The same with the noise of single batches."""
    return np.asarray(values) * np.random.default_rng(seed).lognormal(0, spread, len(values))


def test_a_loss_that_is_no_number_names_its_first_step() -> None:
    found = divergence(losses([1.0, 0.9, float("inf"), 0.8]))
    assert (found.good, found.words) == (False, "the training loss is no finite number from step 3 on")


def test_a_loss_that_ends_higher_than_it_began_has_diverged() -> None:
    # Six steps are three pairs: the means of the first and the last are 1.1 and 1.9.
    found = divergence(losses([1, 1.2, 1.4, 1.6, 1.8, 2]))
    assert (found.good, found.words) == (False, "the training loss ended higher (1.9000) than it began (1.1000)")
    assert not divergence(losses(noisy(np.linspace(1, 3, 60), seed=1))).good


def test_a_loss_that_falls_has_not() -> None:
    assert divergence(losses(noisy(np.linspace(2, 0.1, 60), seed=1))).good
    assert divergence(losses([2.0, 1.0])).good and divergence(losses([])).good


@pytest.mark.parametrize("n", [4, 12, 60, 300])
def test_noise_alone_is_neither_divergence_nor_overfitting(n: int) -> None:
    found = [
        (
            divergence(losses(noisy(np.ones(n), seed))),
            overfitting(losses(np.linspace(2, 1, n), noisy(np.ones(n), seed))),
        )
        for seed in range(200)
    ]
    assert sum(not diverged.good for diverged, _ in found) <= 4
    assert sum(not overfits.good for _, overfits in found) <= 4


def test_a_validation_loss_that_turns_up_while_the_training_loss_falls_is_overfitting() -> None:
    train, valley = np.linspace(2, 0.1, 100), 0.5 + np.abs(np.linspace(-1, 1, 100))
    assert not overfitting(losses(train, noisy(valley, seed=2, spread=0.2))).good
    assert overfitting(losses(train, noisy(valley[:50], seed=2, spread=0.2).repeat(2))).good


def test_over_the_whole_validation_file_a_few_losses_decide_whatever_single_batches_say() -> None:
    train = np.linspace(2, 0.1, 12)
    rising, falling = ([NAN, NAN, NAN, 1.0, NAN, NAN, NAN, last, NAN, NAN, NAN, last + 0.2] for last in (0.8, 0.5))
    found = overfitting(losses(train, np.linspace(2, 0.1, 12), rising))
    assert not found.good
    # By hand: the training loss falls by 0.1727 a step; steps 5 to 8 have the mean 1.0500, steps 9 to 12 0.3591.
    assert found.words == (
        "the validation loss rose from its lowest, 0.8000 up to step 8, to 1.0000, "
        "while the training loss fell from 1.0500 to 0.3591"
    )
    assert overfitting(losses(train, np.linspace(0.1, 2, 12), [*falling[:8], NAN, NAN, NAN, 0.4])).good


def test_a_validation_loss_that_rises_with_the_training_loss_is_not_called_overfitting() -> None:
    both = np.linspace(0.5, 3, 40)
    assert overfitting(losses(both, both)).good and not divergence(losses(both)).good


def test_without_validation_losses_nothing_is_claimed() -> None:
    found = overfitting(losses(np.linspace(2, 1, 50)))
    assert found.good and "too few validation losses" in found.words


def test_few_steps_are_counted() -> None:
    assert too_short(losses(np.ones(MIN_STEPS))).good
    assert not too_short(losses(np.ones(MIN_STEPS - 1))).good
    assert too_short(losses([])).good
