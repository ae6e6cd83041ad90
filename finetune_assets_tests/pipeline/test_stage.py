"""What stages hand to each other."""

from __future__ import annotations

import dagster as dg
import pandas as pd

from finetune_assets.dataset.table import Table
from finetune_assets.pipeline.stages.assets import ASSETS
from finetune_assets.pipeline.stages.champion import champion
from finetune_assets.pipeline.stages.human_feedback import human_feedback
from finetune_assets.results.records import Record
from finetune_assets_tests.pipeline.tasks import make_task


def test_a_stage_is_given_records_and_tables_and_no_dictionary() -> None:
    given = {
        f"{asset.key.path[-1]}.{name}": taken.dagster_type
        for asset in (build(make_task()) for build in (human_feedback, *ASSETS, champion))
        if isinstance(asset.op, dg.OpDefinition)
        for name, taken in asset.op.ins.items()
    }
    kinds = {name: of.typing_type for name, of in given.items() if isinstance(of, dg.DagsterType)}
    assert len(kinds) > 10
    # A dependency which a stage reads itself is no value.
    allowed = (Record, pd.DataFrame, Table, type(None))
    assert [name for name, kind in kinds.items() if not issubclass(kind, allowed)] == []
