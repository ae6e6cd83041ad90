"""Outputs on disk and elsewhere: whole, readable, in their place."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from upath import UPath

from finetune_assets.dataset.table import Table, write_table
from finetune_assets.pipeline.io_manager import JsonIOManager, ParquetIOManager
from finetune_assets.results.region import Outputs

PARTITIONS = dg.StaticPartitionsDefinition(["mono", "poly.v2"])


def round_trip(manager: dg.UPathIOManager, value: object, region: str) -> object:
    """Let one asset write a value and the next one read it."""
    read: list[object] = []

    @dg.asset(key=["cells", "made"], partitions_def=PARTITIONS)
    def made() -> object:
        return value

    @dg.asset(key=["cells", "taken"], partitions_def=PARTITIONS, ins={"made": dg.AssetIn(["cells", "made"])})
    def taken(made: object) -> None:
        read.append(made)

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([made, taken], partition_key=region, instance=instance, resources={"io_manager": manager})
    return read[0]


@pytest.mark.parametrize("region", ["mono", "poly.v2"])
@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_table_comes_back_as_it_was(tmp_path: Path, region: str, scheme: str) -> None:
    root = UPath(tmp_path) if scheme == "file" else UPath("memory://tables")
    table = pd.DataFrame({"name": pd.Series(["a", None], dtype="str"), "n": pd.Series([1, None], dtype="Int64")})
    back = round_trip(ParquetIOManager(root), table, region)
    assert isinstance(back, pd.DataFrame)
    pd.testing.assert_frame_equal(back, table)
    assert (root / "cells/made" / f"{region}.parquet").is_file()


def test_a_table_shows_its_columns_and_both_show_where_they_are(tmp_path: Path) -> None:
    @dg.asset(key=["cells", "made"], partitions_def=PARTITIONS)
    def made() -> pd.DataFrame:
        return pd.DataFrame({"name": pd.Series(["a"], dtype="str"), "n": pd.Series([1], dtype="Int64")})

    with dg.DagsterInstance.ephemeral() as instance:
        manager = {"io_manager": ParquetIOManager(UPath(tmp_path))}
        result = dg.materialize([made], partition_key="mono", instance=instance, resources=manager)
    [event] = result.asset_materializations_for_node("cells__made")
    schema = event.metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema) and [(c.name, c.type) for c in schema.columns] == [
        ("name", "large_string"),
        ("n", "int64"),
    ]
    assert event.metadata["dagster/uri"].value == (tmp_path / "cells/made/mono.parquet").as_uri()


def test_an_input_that_asks_for_a_table_gets_it_unread(tmp_path: Path) -> None:
    path = UPath(tmp_path) / "cells/made/mono.parquet"
    read: list[object] = []

    @dg.asset(key=["cells", "made"], partitions_def=PARTITIONS)
    def made() -> Table:
        return write_table(path, pd.DataFrame({"n": [1, 2]}))

    @dg.asset(key=["cells", "taken"], partitions_def=PARTITIONS, ins={"made": dg.AssetIn(["cells", "made"])})
    def taken(made: Table) -> None:
        read.append(made)

    resources = {"io_manager": ParquetIOManager(UPath(tmp_path))}
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([made, taken], partition_key="mono", instance=instance, resources=resources)
    assert read == [Table(path)]


def test_a_table_that_was_written_elsewhere_is_refused(tmp_path: Path) -> None:
    elsewhere = write_table(UPath(tmp_path) / "elsewhere.parquet", pd.DataFrame({"n": [1]}))
    with pytest.raises(ValueError, match=r"must be written to .*mono\.parquet, it is in .*elsewhere\.parquet"):
        round_trip(ParquetIOManager(UPath(tmp_path)), elsewhere, "mono")


@pytest.mark.parametrize("kept", [pd.DataFrame, Table, dict])
@pytest.mark.parametrize("damage", ["gone", "half"])
def test_a_file_that_is_gone_or_damaged_says_which_stage_makes_it_anew(tmp_path: Path, kept: type, damage: str) -> None:
    @dg.asset(key=["cells", "made"], partitions_def=PARTITIONS)
    def made() -> object:
        return {"n": [1]} if kept is dict else pd.DataFrame({"n": [1]})

    def take(made: object) -> None:
        raise AssertionError(made)

    take.__annotations__["made"] = kept
    ins = {"made": dg.AssetIn(["cells", "made"])}
    taken = dg.asset(key=["cells", "taken"], partitions_def=PARTITIONS, ins=ins)(take)
    manager = JsonIOManager(UPath(tmp_path)) if kept is dict else ParquetIOManager(UPath(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        asked = {"partition_key": "mono", "instance": instance, "resources": {"io_manager": manager}}
        dg.materialize([made], **asked)
        [file] = tmp_path.rglob("mono.*")
        file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:-4])
        result = dg.materialize([made, taken], selection=["cells/taken"], raise_on_error=False, **asked)
    [failed] = result.get_step_failure_events()
    told = failed.step_failure_data.user_failure_data
    assert told and str(file) in (told.description or "") and "Materialise made again" in (told.description or "")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = {"job_id": "ftjob-1", "nested": {"loss": [1.5, None]}, "umlaut": "ä"}
    assert round_trip(JsonIOManager(UPath(tmp_path)), record, "mono") == record
    assert json.loads((tmp_path / "cells/made/mono.json").read_text()) == record


def test_side_files_lie_beside_the_value_that_the_io_manager_writes(tmp_path: Path) -> None:
    round_trip(ParquetIOManager(UPath(tmp_path)), pd.DataFrame({"a": [1]}), "poly.v2")
    assert Outputs(root=str(tmp_path)).path("cells", "made", "poly.v2", ".parquet").is_file()
