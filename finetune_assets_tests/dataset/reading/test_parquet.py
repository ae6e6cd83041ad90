import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from upath import UPath

from finetune_assets.dataset.reading import rows
from finetune_assets.errors import SourceError
from finetune_assets_tests.dataset.reading.tables import read

LABELS = {"names": ["crack", "scratch"], "_type": "ClassLabel"}


def written(path: Path, table: pa.Table, features: dict[str, object] | None = None) -> Path:
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, path)
    return path


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1], "b": [2], "big": ["x" * 1000]}).to_parquet(tmp_path / "t.parquet")
    assert list(rows(UPath(tmp_path / "t.parquet"), ["a"], ["b", "none"])) == [(1, {"a": 1, "b": 2})]


def test_labels_have_the_names_that_the_file_gives_them(tmp_path: Path) -> None:
    table = pa.table({"a": [0, 1, -1, None, 7], "b": [[0, 1], [], [1], None, [0]]})
    path = written(tmp_path / "t.parquet", table, {"a": LABELS, "b": {"feature": LABELS, "_type": "Sequence"}})
    found = [(row["a"], row["b"]) for _, row in read(path) if isinstance(row, dict)]
    assert found == [
        ("crack", ["crack", "scratch"]),
        ("scratch", []),
        (None, ["scratch"]),
        (None, None),
        (7, ["crack"]),
    ]


@pytest.mark.parametrize(
    "feature",
    [{"x": LABELS}, {"x": {"_type": "List", "feature": LABELS}}, [{"x": LABELS}]],
    ids=["object", "list within", "list of objects"],
)
def test_labels_within_objects_and_lists_have_their_names(tmp_path: Path, feature: object) -> None:
    cell = [{"x": 1}] if isinstance(feature, list) else {"x": [1] if "feature" in str(feature) else 1}
    path = written(tmp_path / "t.parquet", pa.table({"a": [cell], "b": [1]}), {"a": feature})
    [(_, row)] = read(path)
    assert isinstance(row, dict) and json.dumps(row["a"]).count("scratch") == 1


@pytest.mark.parametrize(
    "metadata", [b"no json", b"[]", b'{"info": {"features": []}}', b'{"info": {"features": {"a": 1}}}']
)
def test_metadata_of_another_kind_is_no_obstacle(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"a": [0], "b": [1]}).replace_schema_metadata({"huggingface": metadata})
    assert read(written(tmp_path / "t.parquet", table)) == [(1, {"a": 0, "b": 1})]


def test_cells_of_all_types_are_what_they_stand_for(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": pd.Categorical(["x", "y"]), "b": [1, None]}).astype({"b": "Int64"})
    table.to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == [(1, {"a": "x", "b": 1}), (2, {"a": "y", "b": None})]


def test_a_missing_column_or_key_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", pa.table({"a": [{"text": "x"}], "lable": [1]}))
    with pytest.raises(SourceError, match=r"lacks the columns label; it has a, lable\. Did you mean 'lable'"):
        read(path, needed=("label",))
    with pytest.raises(
        SourceError, match=r"lacks the columns txt; it has text\. Did you mean 'text'\? They are in 'a'"
    ):
        read(path, needed=("a.txt",))
    assert read(path, needed=("a.text",)) == [(1, {"a": {"text": "x"}})]


def test_a_column_with_blanks_around_its_name_is_the_same_column(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", pa.table({" a": [1], "b\u00a0": [2]}))
    assert read(path) == [(1, {"a": 1, "b": 2})]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a "])
    with pytest.raises(SourceError, match="the columns 1 and 3 are both called 'a'"):
        read(written(tmp_path / "t.parquet", table))
