import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import huggingface
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import BinaryAnswer, TextAnswer
from finetune_assets.task.sources import HuggingFaceSource
from finetune_assets_tests.dataset.pictures import picture


def read(**settings: object) -> list[Example]:
    made = {"kind": "huggingface", "answer": "{correct_answer}", "region": "all", **settings}
    return list(huggingface.read(HuggingFaceSource.model_validate(made), "all", TextAnswer(kind="text")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set as the hub lays it out: one split in two Parquet files, two in a folder of their own."""
    for number in range(2):
        rows = {"question": [f"train {number}"], "correct_answer": ["a"], "support": [""]}
        path = tmp_path / f"data/train-0000{number}-of-00002.parquet"
        path.parent.mkdir(exist_ok=True)
        pd.DataFrame(rows).to_parquet(path)
    for split in ("test", "validation"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "part.jsonl").write_text(json.dumps({"question": split, "correct_answer": "b"}) + "\n")
    (tmp_path / "README.md").write_text("# About\n")
    (tmp_path / "dataset_infos.json").write_text("{}")
    return tmp_path


def test_a_local_folder_of_the_hub_s_layout_is_read_whole(folder: Path) -> None:
    assert [e.question for e in read(path=str(folder))] == ["train 0", "train 1", "test", "validation"]


def test_its_splits_may_be_chosen(folder: Path) -> None:
    found = read(path=str(folder), splits=["validation", "train"])
    assert [(e.question, e.line) for e in found] == [("validation", 1), ("train 0", 1), ("train 1", 1)]
    with pytest.raises(SourceError, match="no file belongs to the split 'dev'; there are train-00000-of-00002.parquet"):
        read(path=str(folder), splits=["dev"])


def test_a_hub_that_cannot_be_reached_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="none: cannot be loaded .* give a local folder as `path`"):
        read(name="finetune-assets-tests/none")


def test_a_data_set_that_the_library_loads_is_read_with_its_class_names(folder: Path) -> None:
    # The library takes a local folder under the same name as the hub's data sets.
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"question": datasets.Value("string"), "correct_answer": datasets.ClassLabel(names=["cat", "dog"])}
    )
    made = datasets.Dataset.from_dict({"question": ["Q", "R"], "correct_answer": [1, 0]}, features=features)
    (folder / "named").mkdir()
    made.to_parquet(folder / "named" / "train.parquet")
    found = read(name=str(folder / "named"))
    assert [(e.question, e.answer, e.line) for e in found] == [("Q", "dog", 1), ("R", "cat", 2)]
    with pytest.raises(SourceError, match="has no split dev; it has train"):
        read(name=str(folder / "named"), splits=["dev"])
    with pytest.raises(SourceError, match="lacks the columns title; it has question, correct_answer"):
        read(name=str(folder / "named"), question="{title}")


def test_without_the_library_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SourceError, match=r"pip install 'finetune_assets\[hub\]'"):
        read(name="allenai/sciq")


def test_a_data_set_is_given_by_name_or_by_path() -> None:
    for settings in ({}, {"name": "a/b", "path": "c"}):
        with pytest.raises(ValueError, match="exactly one of name and path"):
            HuggingFaceSource.model_validate({"kind": "huggingface", **settings})


def test_a_list_of_one_image_is_it_and_of_several_the_task_says_which(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    shown = [{"bytes": picture(), "path": "a.png"}]
    table = pyarrow.table({"image": [shown, shown * 2], "label": ["yes", "no"]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    fields = {"kind": "huggingface", "path": str(tmp_path), "image": "{image}", "question": "Q?", "answer": "{label}"}
    source = HuggingFaceSource.model_validate(fields | {"region": "all"})
    one, several = huggingface.read(source, "all", BinaryAnswer(kind="binary"))
    assert one.image == picture() and several.problem == "malformed_line"
    assert str(several.detail).startswith("row 2 has 2 images in image: name those that are shown by `images: [{image:")
