"""What stages hand to each other."""

from __future__ import annotations

import pandas as pd

from finetune_assets.dataset.table import Table
from finetune_assets.pipeline.stages.assets import ASSETS
from finetune_assets.pipeline.stages.champion import champion
from finetune_assets.pipeline.stages.human_feedback import human_feedback
from finetune_assets.results.records import Record
from finetune_assets_tests.pipeline.tasks import make_task


def test_a_stage_is_given_records_and_tables_and_no_dictionary() -> None:
    task = make_task()
    given = {
        f"{build(task).key.path[-1]}.{name}": taken.dagster_type.typing_type
        for build in (human_feedback, *ASSETS, champion)
        for name, taken in build(task).op.ins.items()
        # That of a dependency which a stage reads itself is nothing.
        if taken.dagster_type.kind.name != "NOTHING"
    }
    assert len(given) > 10
    assert [name for name, kind in given.items() if not issubclass(kind, Record | pd.DataFrame | Table)] == []
