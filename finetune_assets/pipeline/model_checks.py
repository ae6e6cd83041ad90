"""The asset checks about the model itself: how its training went, and how long it will be there.

They warn, unless the task says otherwise: a bad curve is for a person to judge, and the benchmark decides.
"""

from __future__ import annotations

import dagster as dg
import pandas as pd

from finetune_assets.evaluation import training_curve
from finetune_assets.pipeline.checks import Check

TRAINING_CONVERGED = Check(
    "training_converged", "The training loss stayed a finite number and ended no higher than it began."
)
NO_OVERFITTING = Check(
    "no_overfitting", "The validation loss did not rise from its lowest while the training loss went on falling."
)
ENOUGH_STEPS = Check("enough_steps", f"The job trained for at least {training_curve.MIN_STEPS} steps.")


def training_converged(region: str, losses: pd.DataFrame) -> dg.AssetCheckResult:
    """Judge whether the training diverged."""
    advice = "lower learning_rate_multiplier, or look for broken examples; the model is hardly of use"
    return _result(TRAINING_CONVERGED, region, training_curve.divergence(losses), advice)


def no_overfitting(region: str, losses: pd.DataFrame) -> dg.AssetCheckResult:
    """Judge whether the model began to learn its training examples by heart."""
    advice = "take an earlier checkpoint (checkpoint_step in the run's config), train fewer epochs or on more examples"
    return _result(NO_OVERFITTING, region, training_curve.overfitting(losses), advice)


def enough_steps(region: str, losses: pd.DataFrame) -> dg.AssetCheckResult:
    """Judge the number of training steps."""
    advice = f"at least {training_curve.MIN_STEPS} are usual: raise n_epochs, lower batch_size or add examples"
    return _result(ENOUGH_STEPS, region, training_curve.too_short(losses), advice)


def _result(check: Check, region: str, found: training_curve.Finding, advice: str) -> dg.AssetCheckResult:
    return check.result(found.good, f"Region {region}: {found.words}{'' if found.good else f'; {advice}'}.")
