"""Builds predictions of a base and a fine-tuned model, as the benchmark reads them."""

from typing import Any

import numpy as np
import pandas as pd


def role(name: str, truth: np.ndarray, share_correct: float, seed: int, **columns: Any) -> pd.DataFrame:
    """One model's answers [n], of which about `share_correct` are right; `columns` override what is built."""
    rng = np.random.default_rng(seed)
    n = len(truth)
    says_yes = np.where(rng.random(n) < share_correct, truth, ~truth)
    word = np.where(says_yes, "Yes", "No")
    built = {
        "example_id": [f"cell{i:04d}" for i in range(n)],
        "split": "test",
        "role": name,
        "model": f"{name}-model",
        "truth": np.where(truth, "Yes", "No"),
        "text": word,
        "predicted": word,
        "p_positive": np.where(says_yes, 0.5 + rng.random(n) / 2, rng.random(n) / 2),
        "group": [f"group{i:04d}" for i in range(n)],
        "image": [f"cell{i:04d}.png" for i in range(n)],
        "question": "Is this cell defective?",
        "latency_s": rng.random(n),
        "error": None,
    }
    return pd.DataFrame(built | columns)


def predictions(n: int = 120, base: float = 0.6, fine_tuned: float = 0.85, seed: int = 0) -> pd.DataFrame:
    """Both models' answers to the same n test examples, right with the given probabilities."""
    truth = np.random.default_rng(seed).random(n) < 0.4
    return pd.concat(
        [role("base", truth, base, seed + 1), role("fine_tuned", truth, fine_tuned, seed + 2)], ignore_index=True
    )
