"""Labels that are likely wrong: examples like them have another one (confident learning, Northcutt et al. 2021).

A simple classifier is cross-validated on the training examples, by whole groups: a patient who is labelled wrong
throughout must not teach the classifier that judges him. It sees TF-IDF weights of the text and the pixels of a small
picture. Only where it tells the answers apart (ROC AUC of 0.85 or more) does its disagreement mean anything.
An example is suspect if cleanlab's pruning finds it, and the classifier gives its label less than one chance in ten.
The other splits are judged by the classifier of all training examples. They are only reported: whoever removed from the
test what a model finds hard would flatter every model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finetune_assets.dataset.corrections import Reviewed
from finetune_assets.dataset.features import features_of
from finetune_assets.dataset.table import Table
from finetune_assets.dataset.teaching_order import teaching_order

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

MIN_AUC = 0.85
MIN_EXAMPLES = 60
"""Training examples; fewer tell too little."""
MAX_EXAMPLES = 20_000
MAX_PICTURES = 4_000
"""Examples looked at, drawn by hash, where the region has more; a picture takes milliseconds to decode."""
_FOLDS = 5
_MAX_CHANCE = 0.1
_UNLEARNED = ["example_id", "likely", "chance", "place"]
_COLUMNS = ["example_id", "split", "question", "answer", "image", "image_sha256", "group"]


@dataclass(frozen=True, slots=True)
class LabelErrors:
    """What was found, and how much the finding is worth."""

    note: str
    """How the labels were judged, or why they could not be."""
    auc: float | None
    """How well the classifier tells the answers apart, cross-validated; for several answers the mean over them."""
    suspects: pd.DataFrame
    """Suspect labels of all splits, the least likely first: row, example_id, split, answer, likely, chance, image."""
    unlearned: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_UNLEARNED))
    """What is likely for each training example, by a classifier that did not learn it, the chance of it, and its place
    among those to be reviewed first (`teaching_order`), or -1."""

    def without(self, decided: np.ndarray) -> LabelErrors:
        """Leave out the rows that a reviewer decided, given for each row whether that is so, [n]."""
        return replace(self, suspects=self.suspects.loc[~decided[self.suspects["row"].to_numpy(int)]])

    @property
    def in_training(self) -> dict[int, str]:
        """Detail of each suspect training row."""
        rows = self.suspects.loc[self.suspects["split"] == "train"]
        return {
            int(row): f"{answer} has a chance of {chance:.0%}; examples like it say {likely}"
            for row, answer, likely, chance in rows[["row", "answer", "likely", "chance"]].itertuples(index=False)
        }


def find_label_errors(table: Table | Reviewed, fit: np.ndarray, keys: np.ndarray) -> LabelErrors:
    """Look for labels that are likely wrong.

    Args:
        table: Sampled examples.
        fit: Which rows to judge, [n].
        keys: Hashes by which a large region's rows are drawn, [n].
    """
    examples = _drawn(table, fit, keys)
    training = (examples["split"] == "train").to_numpy()
    counts = examples.loc[training, "answer"].value_counts()
    answers = sorted(counts.index[counts >= 2 * _FOLDS])
    if training.sum() < MIN_EXAMPLES or len(answers) < 2:
        return _nothing(f"not looked for: fewer than {MIN_EXAMPLES} training examples, or of one answer only")
    examples = examples.loc[examples["answer"].isin(answers)]
    training = (examples["split"] == "train").to_numpy()
    labels = np.searchsorted(answers, examples["answer"].to_numpy(object).astype(str))
    features = features_of(examples, training)
    if features is None:
        return _nothing("not looked for: all examples ask the same, without images")
    groups = examples["group"].fillna(examples["example_id"]).to_numpy(object)[training].astype(str)
    per_answer = [len(set(groups[labels[training] == label])) for label in range(len(answers))]
    if min(per_answer) < _FOLDS:
        return _nothing(f"not looked for: an answer occurs in fewer than {_FOLDS} groups of the training examples")
    chances, auc = _chances(features, labels, training, groups)
    if auc < MIN_AUC:
        return LabelErrors(f"a simple classifier cannot tell the answers apart (ROC AUC {auc:.2f})", auc, _empty())
    return LabelErrors(
        f"a simple classifier tells the answers apart with a ROC AUC of {auc:.2f}",
        auc,
        _suspects(examples, labels, chances, training, answers),
        pd.DataFrame(
            {
                "example_id": examples["example_id"].to_numpy()[training],
                "likely": [answers[place] for place in chances[training].argmax(1)],
                "chance": chances[training].max(1),
                "place": teaching_order(features[training], 1 - chances[training].max(1)),
            }
        ),
    )


def _drawn(table: Table | Reviewed, fit: np.ndarray, keys: np.ndarray) -> pd.DataFrame:
    """The rows to judge, as many as there is time for, under their row numbers."""
    pictured = any(chunk["image_sha256"].notna().any() for chunk in table.chunks(["image_sha256"]))
    wanted, most = np.flatnonzero(fit), MAX_PICTURES if pictured else MAX_EXAMPLES
    if len(wanted) > most:
        wanted = wanted[np.argpartition(keys[wanted], most)[:most]]
    chosen = np.zeros(len(fit), bool)
    chosen[wanted] = True
    return pd.concat([chunk.loc[chosen[chunk.index]] for chunk in table.chunks(_COLUMNS)])


def _chances(features: Any, labels: np.ndarray, training: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, float]:
    """Chance of each answer for each example, [n, k], from classifiers that did not learn from it, and their AUC."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict

    classifier = _classifier()
    known, taught = features[training], labels[training]
    folds: Any = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(known, taught, groups)
    if len(np.unique(groups)) == len(groups):
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(known, taught)
    crossed = np.asarray(cross_val_predict(classifier, known, taught, cv=list(folds), method="predict_proba"))
    chances = np.empty((len(labels), crossed.shape[1]))
    chances[training] = crossed
    if not training.all():
        chances[~training] = classifier.fit(known, taught).predict_proba(features[~training])
    binary = crossed.shape[1] == 2
    auc = roc_auc_score(taught, crossed[:, 1] if binary else crossed, multi_class="ovr")
    return chances, float(auc)


def _classifier() -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=300, C=1.0)


def _suspects(
    examples: pd.DataFrame, labels: np.ndarray, chances: np.ndarray, training: np.ndarray, answers: list[str]
) -> pd.DataFrame:
    from cleanlab.filter import find_label_issues

    found = np.zeros(len(labels), bool)
    for part in (training, ~training):
        # Confident learning needs some examples of each answer.
        if (np.bincount(labels[part], minlength=len(answers)) >= _FOLDS).all():
            found[part] = find_label_issues(labels[part], chances[part], filter_by="prune_by_noise_rate", n_jobs=1)
    chance = chances[np.arange(len(labels)), labels]
    shown = np.flatnonzero(found & (chance < _MAX_CHANCE))
    shown = shown[np.argsort(chance[shown], kind="stable")]
    rows = examples.iloc[shown]
    return pd.DataFrame(
        {
            "row": rows.index,
            "example_id": rows["example_id"].to_numpy(),
            "split": rows["split"].to_numpy(),
            "answer": rows["answer"].to_numpy(),
            "likely": [answers[place] for place in chances[shown].argmax(1)],
            "chance": chance[shown],
            "image": rows["image"].to_numpy(),
        }
    )


def _nothing(note: str) -> LabelErrors:
    return LabelErrors(note, None, _empty())


def _empty() -> pd.DataFrame:
    return pd.DataFrame(columns=["row", "example_id", "split", "answer", "likely", "chance", "image"])
