"""What is said of a region's splits before anything is run, and what the stages then make of it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from finetune_assets.preflight import examples
from finetune_assets.task import SPLITS
from finetune_assets_tests.dataset.belonging.test_look_alikes import cell, encoded
from finetune_assets_tests.dataset.pictures import put
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task


@pytest.mark.parametrize("group", [None, "{panel}"])
def test_the_splits_of_images_are_those_that_the_stages_draw(tmp_path: Path, group: str | None) -> None:
    rows = ["file,answer,panel"]
    for number in range(60):
        put(tmp_path / f"{number}.png", encoded(cell(number, 32).convert("RGB")))
        rows.append(f"{number}.png,{'Yes' if number // 2 % 2 else 'No'},{number // 2}")
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    source = {"kind": "table", "path": str(tmp_path / "parts.csv"), "image": "{file}", "question": "Is it broken?"}
    task = make_task(source=source | {"region": "mono"} | ({"group": group} if group else {}))
    [words] = [found.words for found in examples.findings(task, "mono") if "rows give" in found.words]
    project = Project(task, tmp_path / "outputs")
    made = project.run("human_feedback", "sampled_examples", "filtered_qa")
    assert made.success, failures(made)
    clean = pd.read_parquet(project.output("filtered_qa", ".parquet"))["split"].value_counts()
    assert {split: int(n) for n, split in re.findall(rf"(\d+) ({'|'.join(SPLITS)})", words)} == clean.to_dict()
