"""Which examples a training file held, kept under the file's hash, so that no model is judged by what it has seen.

`training_jsonl/<region>/trained/<sha256>.parquet` has one row for each example that the file and its validation file
show a model: hashes of its id, its image, its group and what its text says. It stays when the region is prepared again.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from upath import UPath

from finetune_assets.dataset.belonging.groups import UNKNOWN
from finetune_assets.dataset.belonging.memory import KEYS, Known, beside
from finetune_assets.dataset.belonging.near_texts import text_keys
from finetune_assets.dataset.table import Table, hashes, write_table
from finetune_assets.results.region import Region

COLUMNS = ("example_id", "image_sha256", "group", "question", "system")


def note_trained(region: Region, examples: Table, sha256: str) -> None:
    """Keep what the examples of the splits that are sent to a provider are known by.

    Args:
        region: Whose they are.
        examples: The region's clean examples.
        sha256: Of the training file that was written of them.
    """
    sent = examples.frame(COLUMNS, split=("train", "validation"))
    known = _known(region, sent)
    write_table(_path(region, sha256), pd.DataFrame({key: getattr(known, key) for key in KEYS}))


def has_seen(region: Region, sha256: str | None, examples: pd.DataFrame) -> np.ndarray | None:
    """Say of each example whether a model has seen it, or what belongs to it, [n]; None where nobody noted that.

    Args:
        region: Whose examples they are.
        sha256: Of the file that trained the model; None where that is not known.
        examples: Rows of `filtered_qa`.
    """
    if sha256 is None or not (path := _path(region, sha256)).exists():
        return None
    frame = Table(path).frame()
    others = Known(*(frame[key].to_numpy(np.uint64) for key in KEYS))
    return beside(_known(region, examples), others, np.zeros(len(frame), np.int8)) > 0


def _path(region: Region, sha256: str) -> UPath:
    return region.path("training_jsonl", f"/trained/{sha256}.parquet")


def _known(region: Region, examples: pd.DataFrame) -> Known:
    texts = np.full(len(examples), UNKNOWN, np.uint64)
    said = examples["image_sha256"].isna().to_numpy() & region.task.filtering.near_duplicates
    systems = [system if isinstance(system, str) else None for system in examples["system"][said]]
    texts[said] = text_keys([str(question) for question in examples["question"][said]], systems)
    return Known(
        hashes(examples.filter(["example_id"])),
        _hashed(examples, "image_sha256"),
        _hashed(examples, "group"),
        texts,
    )


def _hashed(examples: pd.DataFrame, column: str) -> np.ndarray:
    return np.where(examples[column].notna(), hashes(examples.filter([column])), np.uint64(UNKNOWN))
