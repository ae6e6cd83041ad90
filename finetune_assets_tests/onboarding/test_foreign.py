"""Files that no source reads are refused by what they are, with what to do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.errors import SourceError
from finetune_assets.onboarding.survey import survey
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.onboarding.beginning import begun

CALL = {"id": "c", "type": "function", "function": {"name": "book", "arguments": "{}"}}
DRAWN = {"version": "5.0", "flags": {}, "shapes": [{"label": "crack", "points": []}], "imagePath": "a.png"}


def chat(**said: Any) -> str:
    return json.dumps({"messages": [{"role": "user", "content": "A table?"}, {"role": "assistant", **said}]})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("data.zip", "PK", "it is an archive; unpack it into a folder"),
        ("data.tar.gz", "", "it is an archive; unpack it"),
        ("all.xml", "<?xml version='1.0'?><annotations><image/></annotations>", "CVAT; export it from there as COCO"),
        ("one.xml", "<annotation><filename>a.jpg</filename></annotation>", "one image in Pascal VOC; give the folder"),
        ("a.json", json.dumps(DRAWN), "LabelMe drew on one image; export the folder as COCO"),
        ("train.txt", "__label__pos good\n__label__neg bad\n", "fastText; write it as a table with the columns label"),
        ("calls.jsonl", chat(tool_calls=[CALL]), r"calls of tools.*answer: {kind: call, tools: \[{name: book}\]}"),
        ("what.txt", "free text", r"no source reads a \.txt file"),
    ],
)
def test_what_it_is_is_told_with_the_way_out(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=told):
        survey(tmp_path / name)


def test_the_command_for_fasttext_makes_a_table_that_is_read(tmp_path: Path) -> None:
    lines = [f"__label__{('pos', 'neg')[n % 2]} this is text number {n}" for n in range(60)]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError) as refused:
        survey(tmp_path / "train.txt")
    subprocess.run(str(refused.value).rpartition("text: ")[2], shell=True, check=True, cwd=tmp_path)  # noqa: S602
    task, shown = begun(tmp_path / "train.tsv")
    assert task.answer.kind == "binary"
    assert "60 examples." in shown


def test_several_files_of_chats_are_one_source_with_their_splits(tmp_path: Path) -> None:
    for split, n in (("train", 60), ("test", 30)):
        lines = [chat(content=("Yes", "No")[k % 2]).replace("A table?", f"Is {split} {k} fine?") for k in range(n)]
        put(tmp_path / "chats" / f"{split}.jsonl", "\n".join(lines).encode())
    task, shown = begun(tmp_path / "chats")
    assert task.source.model_dump()["split_from_path"] == "^(test|train)"
    assert "90 examples." in shown


def test_folders_that_are_published_splits_stay_what_they_are(tmp_path: Path) -> None:
    for split, n in (("train", 60), ("test", 30)):
        for number in range(n):
            shade = number + (60 if split == "test" else 0)
            put(tmp_path / "cells" / split / f"{number}.png", picture(size=(16, 16), shade=20 + shade))
        rows = [{"file_name": f"{number}.png", "label": ("crack", "fine")[number % 2]} for number in range(n)]
        put(tmp_path / "cells" / split / "metadata.jsonl", "\n".join(map(json.dumps, rows)).encode())
    task, _ = begun(tmp_path / "cells")
    assert task.source.model_dump()["split_from_path"] == "^(test|train)"


def test_a_folder_of_several_coco_files_asks_for_one(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        put(tmp_path / split / "_annotations.coco.json", b'{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(SourceError, match=r"holds 3 COCO files \(test/_annotations.*; a task reads one of them"):
        survey(tmp_path)
