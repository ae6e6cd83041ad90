"""Labels that examples like them contradict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from upath import UPath

from finetune_assets.dataset.label_errors import MIN_EXAMPLES, LabelErrors, find_label_errors
from finetune_assets.dataset.sampling import DTYPES
from finetune_assets.dataset.table import write_table


def found(rows: list[dict[str, object]], folder: Path) -> LabelErrors:
    frame = pd.DataFrame([{**dict.fromkeys(DTYPES), **row} for row in rows], columns=list(DTYPES)).astype(DTYPES)
    table = write_table(UPath(folder) / "t.parquet", frame)
    return find_label_errors(table, np.ones(len(frame), bool), np.arange(len(frame)).astype(np.uint64))


def texts(n: int, split: str = "train") -> list[dict[str, object]]:
    """Questions about fires and lakes; fires are hot."""
    return [
        {
            "example_id": f"{split}-{k}",
            "split": split,
            "question": f"Is the {'burning red fire' if k % 2 else 'deep blue lake'} of place {k * 7 % 11} hot?",
            "answer": "Yes" if k % 2 else "No",
        }
        for k in range(n)
    ]


def test_a_planted_label_error_is_found_in_every_split(tmp_path: Path) -> None:
    rows = texts(200) + texts(60, "test")
    for wrong in (11, 201):
        rows[wrong]["answer"] = "No"
    result = found(rows, tmp_path)
    assert set(result.suspects["example_id"]) == {"train-11", "test-1"}
    assert list(result.in_training) == [11]
    assert "examples like it say Yes" in result.in_training[11]
    assert result.auc is not None and result.auc > 0.95
    unlearned = dict(zip(result.unlearned["example_id"], result.unlearned["likely"], strict=True))
    assert len(unlearned) == 200 and unlearned["train-11"] == "Yes"


def test_where_the_answers_cannot_be_told_apart_nothing_is_suspect(tmp_path: Path) -> None:
    rows = texts(200)
    for row, toss in zip(rows, np.random.default_rng(0).random(200), strict=True):
        row["answer"] = "Yes" if toss < 0.5 else "No"
    result = found(rows, tmp_path)
    assert result.suspects.empty
    assert "cannot tell the answers apart" in result.note


def test_pictures_are_looked_at_where_all_ask_the_same(tmp_path: Path) -> None:
    rows = []
    for k, noise in enumerate(np.random.default_rng(0).integers(0, 60, (100, 16, 16), dtype=np.uint8)):
        noise[4:12, 4:12] += np.uint8(150 * (k % 2))
        path = tmp_path / f"{k}.png"
        Image.fromarray(noise).save(path)
        answer = "Yes" if k % 2 else "No"
        rows.append({"example_id": str(k), "split": "train", "question": "A square?", "answer": answer,
                     "image": str(path)})  # fmt: skip
    rows[31]["answer"] = "No"
    result = found(rows, tmp_path)
    assert result.suspects["example_id"].tolist() == ["31"]
    assert result.suspects["image"].tolist() == [str(tmp_path / "31.png")]


def test_patients_who_are_labelled_wrong_throughout_are_found(tmp_path: Path) -> None:
    randoms, rows = np.random.default_rng(0), []
    for patient in range(24):
        looks = randoms.integers(0, 200, (16, 16))
        for part in range(8):
            noisy = np.clip(looks + randoms.normal(0, 6, (16, 16)), 0, 200)
            noisy[4:12, 4:12] += 55 * (patient % 2)
            path = tmp_path / f"{patient}-{part}.png"
            Image.fromarray(noisy.astype(np.uint8)).save(path)
            answer = "Yes" if (patient % 2 == 1) != (patient in (3, 8)) else "No"
            rows.append({"example_id": path.stem, "split": "train", "question": "A square?", "answer": answer,
                         "image": str(path), "group": f"p{patient}"})  # fmt: skip
    result = found(rows, tmp_path)
    patients = {name.split("-")[0] for name in result.suspects["example_id"]}
    assert patients == {"3", "8"}
    assert len(result.suspects) >= 12


def test_a_few_examples_and_one_answer_tell_nothing(tmp_path: Path) -> None:
    for rows in (texts(MIN_EXAMPLES - 2), [{**row, "answer": "Yes"} for row in texts(200)], []):
        result = found(rows, tmp_path)
        assert result.suspects.empty and result.auc is None
        assert "not looked for" in result.note
