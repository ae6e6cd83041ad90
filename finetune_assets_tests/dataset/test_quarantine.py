from pathlib import Path

import pandas as pd
from upath import UPath

from finetune_assets.dataset.corrections import DTYPES, Reviewed
from finetune_assets.dataset.filtering import filter_examples
from finetune_assets.dataset.sampling import sample
from finetune_assets.dataset.sources import read
from finetune_assets.task import Filtering, Sampling
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.sources import ScoredImagesSource
from finetune_assets_tests.dataset.pictures import picture, put

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")
ALL = Sampling(train=0.4, validation=0.2, calibration=0.2, test=0.2)


def test_a_truncated_line_and_broken_images_end_as_rows_that_name_file_and_line(tmp_path: Path) -> None:
    put(tmp_path / "good.png", picture())
    put(tmp_path / "copy.png", picture())
    put(tmp_path / "broken.png", picture()[:50])
    table = tmp_path / "table.jsonl"
    images = ["good.png", "broken.png", "none.png", "copy.png"]
    rows = [f'{{"image_url": "{name}", "score": 1, "region": "r1"}}' for name in images]
    table.write_text("\n".join([*rows, rows[0][:30]]))

    source = ScoredImagesSource.model_validate({"kind": "scored_images", "path": str(table)})
    out = UPath(tmp_path) / "out"
    sampled = sample(read(source, "r1", ANSWER), ALL, out / "sampled.parquet")
    examples = Reviewed.of(sampled.table, pd.DataFrame(columns=list(DTYPES)), ANSWER)
    result = filter_examples(examples, ANSWER, Filtering(), out / "clean.parquet", out / "quarantine.parquet")
    quarantine = result.quarantine.frame()

    assert sampled.n_source == len(result.clean) + len(result.quarantine) == 5
    assert result.clean.frame()["line"].tolist() == [1]
    found = quarantine[["source", "line", "reason"]].itertuples(index=False, name=None)
    assert list(found) == [
        (str(table), 2, "image_truncated"),
        (str(table), 3, "image_missing"),
        (str(table), 4, "duplicate"),
        (str(table), 5, "malformed_line"),
    ]
    assert quarantine["split"].isna().tolist() == [True, True, False, True]
    assert "cut off" in quarantine["detail"].tolist()[-1]
