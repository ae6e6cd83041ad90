"""Builds predictions of a base and a fine-tuned model, as the benchmark reads them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from finetune_assets.evaluation.prediction import Prediction


def prediction(truth: str, predicted: str | None, **fields: Any) -> Prediction:
    """One answer to one example; `fields` override what is usual."""
    usual: dict[str, Any] = {
        "example_id": "e0",
        "split": "test",
        "role": "base",
        "model": "base-model",
        "truth": truth,
        "text": predicted,
        "predicted": predicted,
        "group": "g0",
        "question": "?",
    }
    return Prediction(**usual | fields)


def rows(truth: Sequence[str], predicted: Sequence[str | None], p_positive: Sequence[float | None]) -> list[Prediction]:
    """Binary answers to as many examples."""
    return [prediction(t, given, p_positive=p) for t, given, p in zip(truth, predicted, p_positive, strict=True)]


def role(name: str, truth: np.ndarray, share_correct: float, seed: int, **columns: Any) -> pd.DataFrame:
    """One model's binary answers [n], of which about `share_correct` are right; `columns` override what is built."""
    rng = np.random.default_rng(seed)
    n = len(truth)
    says_yes = np.where(rng.random(n) < share_correct, truth, ~truth)
    word = np.where(says_yes, "Yes", "No")
    p_positive = np.where(says_yes, 0.5 + rng.random(n) / 2, rng.random(n) / 2)
    built = {
        **_common(name, n, rng),
        "truth": np.where(truth, "Yes", "No"),
        "text": word,
        "predicted": word,
        "p_positive": p_positive,
        "p_predicted": np.where(says_yes, p_positive, 1 - p_positive),
        "p_truth": np.where(truth, p_positive, 1 - p_positive),
    }
    return pd.DataFrame(built | columns)


def predictions(n: int = 120, base: float = 0.6, fine_tuned: float = 0.85, seed: int = 0) -> pd.DataFrame:
    """Both models' binary answers to the same n test examples, right with the given probabilities."""
    truth = np.random.default_rng(seed).random(n) < 0.4
    return pd.concat(
        [role("base", truth, base, seed + 1), role("fine_tuned", truth, fine_tuned, seed + 2)], ignore_index=True
    )


def choices(
    options: Sequence[str], n: int = 150, base: float = 0.4, fine_tuned: float = 0.8, seed: int = 0
) -> pd.DataFrame:
    """Both models' choices for the same n test examples; a wrong one is any option, a tenth of them unreadable."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(list(options), n)
    frames = []
    for name, share in (("base", base), ("fine_tuned", fine_tuned)):
        right = rng.random(n) < share
        given = np.where(right, truth, rng.choice(list(options), n)).astype(object)
        given[~right & (rng.random(n) < 0.1)] = None
        p = np.where(right, 0.6, 0.3) + 0.3 * rng.random(n)
        answered = {"truth": truth, "text": np.where(given == None, "hm", given), "predicted": given}  # noqa: E711
        frames.append(pd.DataFrame(_common(name, n, rng) | answered | {"p_predicted": p, "p_truth": p}))
    return pd.concat(frames, ignore_index=True)


def numbers(n: int = 150, base: float = 0.9, fine_tuned: float = 0.3, seed: int = 0) -> pd.DataFrame:
    """Both models' prices for the same n test examples, off by log-normal factors of the given spreads."""
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.normal(4, 1, n)).round(2)
    frames = []
    for name, spread in (("base", base), ("fine_tuned", fine_tuned)):
        guess = (truth * np.exp(rng.normal(0, spread, n))).round(2)
        written = {"truth": [f"${t:.2f}" for t in truth], "text": [f"${g:.2f}" for g in guess]}
        answered = {**written, "predicted": written["text"], "truth_value": truth, "predicted_value": guess}
        frames.append(pd.DataFrame(_common(name, n, rng) | answered))
    return pd.concat(frames, ignore_index=True)


def texts(n: int = 100, base: float = 0.1, fine_tuned: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Both models' sentences for the same n test examples, which hold the answer with the given probabilities."""
    rng = np.random.default_rng(seed)
    frames = []
    for name, share in (("base", base), ("fine_tuned", fine_tuned)):
        right = rng.random(n) < share
        text = [f"word{k} it is" if yes else "I do not know" for k, yes in enumerate(right)]
        answered = {"truth": [f"word{k} Explanation: because" for k in range(n)], "text": text, "predicted": text}
        p = np.where(right, 0.5, 0.2) + 0.4 * rng.random(n)
        frames.append(pd.DataFrame(_common(name, n, rng) | answered | {"p_predicted": p}))
    return pd.concat(frames, ignore_index=True)


def _common(name: str, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """The columns that do not depend on the kind of answer, and nothing in those that do."""
    return {
        "example_id": [f"cell{i:04d}" for i in range(n)],
        "split": "test",
        "role": name,
        "model": f"{name}-model",
        "truth_value": np.nan,
        "predicted_value": np.nan,
        "p_positive": np.nan,
        "p_predicted": np.nan,
        "p_truth": np.nan,
        "group": [f"group{i:04d}" for i in range(n)],
        "subgroup": None,
        "image": [f"cell{i:04d}.png" for i in range(n)],
        "question": "Is this cell defective?",
        "latency_s": rng.random(n),
        "prompt_tokens": 40,
        "completion_tokens": 1,
        "truncated": False,
        "error": None,
    }
