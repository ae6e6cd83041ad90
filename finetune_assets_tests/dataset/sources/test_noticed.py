"""What a table's first rows show and the task's YAML does not say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from finetune_assets.dataset.sources import chat_jsonl, table
from finetune_assets.dataset.sources.noticed import N_ROWS, Noticed, notice
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import ImageFolderSource
from finetune_assets.task.answers import BinaryAnswer, NumberAnswer
from finetune_assets.task.sources import ChatJsonlSource, ScoredImagesSource, TableSource
from finetune_assets_tests.dataset.pictures import picture, put

BINARY = BinaryAnswer(kind="binary")


def look(tmp_path: Path, text: str, wanted: str = "all", **settings: object) -> Noticed:
    (tmp_path / "t.csv").write_text(text, encoding="cp1252" if "ä" in text else "utf-8")
    fields: dict[str, object] = {"kind": "table", "path": "t.csv", "question": "{q}", "answer": "{a}", "region": "all"}
    return notice(TableSource.model_validate(fields | settings, context={"folder": tmp_path}), wanted, BINARY)


@pytest.mark.parametrize("column", ["patient_id", "PatientID", "Patienten-Nr.", "subject", "StudyInstanceUID", "scene"])
def test_a_column_that_says_what_belongs_together_is_named_where_no_group_is(tmp_path: Path, column: str) -> None:
    rows = f"q,a,{column}\nx?,Yes,P1\ny?,No,P1\nz?,No,2\n"
    [doubt] = look(tmp_path, rows).doubts
    assert doubt.startswith(f"{column} has 2 values in 3 rows and names no group")
    assert doubt.endswith(f'write `group: "{{{column}}}"` under source')
    assert look(tmp_path, rows, group=f"{{{column}}}").doubts == ()


@pytest.mark.parametrize("values", [("1", "2", "3"), ("1", "1", "1"), ("", "", "")])
def test_values_that_are_all_different_or_all_the_same_group_nothing(tmp_path: Path, values: tuple[str, ...]) -> None:
    assert look(tmp_path, "q,a,patient\n" + "".join(f"x{v}?,Yes,{v}\n" for v in values)).doubts == ()


def test_columns_of_other_names_may_repeat(tmp_path: Path) -> None:
    assert look(tmp_path, "q,a,patient_age,camera\nx?,Yes,40,1\ny?,No,40,1\nz?,No,41,2\n").doubts == ()


def test_a_region_by_patient_is_no_group(tmp_path: Path) -> None:
    rows = "q,a,patient\nx?,Yes,p1\ny?,No,p1\nz?,No,p2\n"
    assert look(tmp_path, rows, "p1", region="{patient}").doubts == ()


def test_spellings_that_meet_in_one_region_are_told(tmp_path: Path) -> None:
    rows = "q,a,r\nx?,Yes,Left lung\ny?,No,left-lung\nz?,No,Left lung\nv?,Yes,right\n"
    [doubt] = look(tmp_path, rows, "left-lung", region="{r}").doubts
    assert doubt == (
        "several spellings are one region: 'Left lung' (2 rows), 'left-lung' (1 rows); "
        "if they are different ones, rename one"
    )
    assert look(tmp_path, rows, "right", region="{r}").doubts == ()


def test_a_composed_and_a_decomposed_letter_are_one_spelling(tmp_path: Path) -> None:
    rows = "q,a,r\nx?,Yes,Sch\u00fcssel\ny?,No,Schu\u0308ssel\n"
    assert look(tmp_path, rows, "schüssel", region="{r}").doubts == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [("q;a\nKühl?;Yes\nSpät?;No\n", "t.csv: cp1252, cells divided by ';'"),
     ("q\ta\nx?\tYes\n", "t.csv: utf-8, cells divided by '\\t'")],
)  # fmt: skip
def test_how_a_file_is_written_is_said_as_it_was_found(tmp_path: Path, text: str, said: str) -> None:
    assert look(tmp_path, text).written == said


def test_columns_of_parquet_tables_are_seen_without_reading_their_images(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": [b"not read"] * 3, "label": ["Yes", "No", "No"], "patientId": [1, 1, 2]})
    frame.to_parquet(tmp_path / "t.parquet")
    fields = {"kind": "table", "path": str(tmp_path / "t.parquet"), "image": "{image}", "question": "Broken?"}
    source = TableSource.model_validate(fields | {"answer": "{label}", "region": "all"})
    found = notice(source, "all", BINARY)
    assert found.doubts[0].startswith("patientId has 2 values in 3 rows")
    assert found.written == ""


def test_a_scored_table_s_own_column_group_is_its_group(tmp_path: Path) -> None:
    fields = {"kind": "scored_images", "path": str(tmp_path / "s.csv"), "region": "all"}
    (tmp_path / "s.csv").write_text("image_url,score,patient,group\na.png,1,p,x\nb.png,0,p,y\nc.png,0,q,y\n")
    assert notice(ScoredImagesSource.model_validate(fields), "all", BINARY).doubts == ()


def test_only_the_first_rows_are_looked_at(tmp_path: Path) -> None:
    rows = [f"q{n}?,Yes,{n}\n" for n in range(N_ROWS)]
    assert look(tmp_path, "".join(["q,a,patient\n", *rows, "z?,No,1\n"])).doubts == ()


@pytest.mark.parametrize("column", ["annotator", "Reader ID", "rater_name"])
def test_a_column_of_people_is_told_where_no_annotator_is_named(tmp_path: Path, column: str) -> None:
    rows = f"q,a,{column}\nx?,Yes,ann\nx?,No,bob\n"
    [doubt] = look(tmp_path, rows).doubts
    assert doubt.startswith(f"{column} names 2 people")
    assert doubt.endswith(f'write `annotator: "{{{column}}}"` under source')
    assert look(tmp_path, rows, annotator=f"{{{column}}}").doubts == ()


@pytest.mark.parametrize(
    ("scores", "is_told"),
    [("0 1 1 100 2 0", True), ("0 1 0.5 7", False), ("20 70 80", False), ("40% 9% 0.5% 1%", False)],
)
def test_scores_of_another_scale_are_told_where_some_could_be_of_ours(
    tmp_path: Path, scores: str, is_told: bool
) -> None:
    rows = "".join(f"{n}.png,{score}\n" for n, score in enumerate(scores.split()))
    (tmp_path / "s.csv").write_text(f"image_url,score\n{rows}")
    fields = {"kind": "scored_images", "path": str(tmp_path / "s.csv"), "region": "all"}
    doubts = notice(ScoredImagesSource.model_validate(fields), "all", BINARY).doubts
    assert bool(doubts) == is_told
    if is_told:
        assert doubts[0].startswith("2 of 4 scores are above 1, so the 2 others")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (["12,50", "1.250,00"], "; a has ',' as its decimal sign and '.' to group digits"),
        (["12.5", "1,250.25"], "; a has '.' as its decimal sign and ',' to group digits"),
        (["1.250", "2.125"], ""),
    ],
    ids=["a comma", "a point", "not proved"],
)
def test_how_numbers_are_written_is_told_beside_encoding_and_delimiter(
    tmp_path: Path, numbers: list[str], words: str
) -> None:
    (tmp_path / "t.csv").write_text("q;a\n" + "".join(f"x{n}?;{n}\n" for n in numbers))
    source = {"kind": "table", "path": "t.csv", "question": "{q}", "answer": "{a}", "region": "all"}
    read = TableSource.model_validate(source, context={"folder": tmp_path})
    assert notice(read, "all", NumberAnswer(kind="number")).written == f"t.csv: utf-8, cells divided by ';'{words}"


def test_published_splits_that_are_not_used_are_told(tmp_path: Path) -> None:
    rows = "q,a,subset\nx?,Yes,train\ny?,No,Test\nz?,No,val\n"
    [doubt] = look(tmp_path, rows).doubts
    assert doubt.startswith("subset test, train, val seem to be published splits, which are mixed and cut anew")
    assert look(tmp_path, rows, split="{subset}").doubts == ()
    assert look(tmp_path, "q,a,subset\nx?,Yes,train\ny?,No,bus\n").doubts == ()


def test_splits_among_the_folders_of_classes_are_told(tmp_path: Path) -> None:
    for name in ("train/crack/1.png", "val/fine/2.png"):
        put(tmp_path / name, picture())
    fields: dict[str, object] = {"kind": "image_folder", "path": str(tmp_path), "region": "all"}
    [doubt] = notice(ImageFolderSource.model_validate(fields), "all", BINARY).doubts
    assert doubt.startswith("the folders train, val seem to be published splits")
    assert notice(ImageFolderSource.model_validate(fields | {"split": "{split}"}), "all", BINARY).doubts == ()


def test_entries_of_a_list_that_are_passed_over_are_told(tmp_path: Path) -> None:
    rows = [{"q": "x?", "annotations": [{"a": "Yes"}, {"a": "No"}]}, {"q": "y?", "annotations": [{"a": "No"}]}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    [doubt] = look(tmp_path, "", path="t.json", answer="{annotations.0.a}").doubts
    assert doubt.startswith("in 1 rows annotations has several entries, of which only the one at 0 is read")
    assert doubt.endswith("`kind: label_studio`")


def test_images_that_are_called_the_same_in_several_folders_are_told(tmp_path: Path) -> None:
    names = [f"{folder}/slice{n}.png" for folder in ("t1", "t2") for n in range(3)]
    rows = "q,a,f\n" + "".join(f"x?,Yes,{name}\n" for name in names)
    [doubt] = look(tmp_path, rows, image="{f}").doubts
    assert doubt.startswith("3 of 3 images are called as others in another folder (t1/slice0.png, t2/slice0.png)")
    pattern = {"group": "{f}", "group_pattern": "([^/]+)$"}
    assert look(tmp_path, rows, image="{f}", **pattern).doubts == ()


def test_weights_of_votes_that_count_alike_are_told(tmp_path: Path) -> None:
    [doubt] = look(tmp_path, "q,a,who,Weight\nx?,Yes,a,0.2\nx?,No,b,0.9\n", annotator="{who}").doubts
    assert doubt == "the votes count alike, whatever Weight says of them"


def test_a_delimiter_that_ends_each_line_is_told(tmp_path: Path) -> None:
    assert look(tmp_path, "q,a\nx?,Yes,\ny?,No,\n").written == (
        "t.csv: utf-8, cells divided by ',', one more at the end of each line"
    )


@pytest.mark.parametrize(
    ("names", "series"),
    [
        ([f"p{patient}_s{n:02}.png" for patient in range(4) for n in range(5)], "p0, p1"),
        ([f"case{patient}frame{n}.jpg" for patient in range(4) for n in range(5)], "case0, case1"),
        ([f"img{n:03}.png" for n in range(40)], None),
        ([f"cat_{n}.png" for n in range(40)], None),
        ([f"2024-11-{day:02}_{n}.png" for day in range(1, 5) for n in range(5)], None),
    ],
)
def test_images_that_are_numbered_in_series_are_told_where_no_group_is(
    tmp_path: Path, names: list[str], series: str | None
) -> None:
    rows = "f,a\n" + "".join(f"{name},Yes\n" for name in names)
    doubts = look(tmp_path, rows, image="{f}", question="Broken?").doubts
    assert [doubt.split("(")[1].split(", ...")[0] for doubt in doubts] == ([series] if series else [])
    if series:
        [pattern] = re.findall(r"group_pattern: '(.*)'` under", doubts[0])
        assert look(tmp_path, rows, image="{f}", question="Broken?", group="{f}", group_pattern=pattern).doubts == ()


def split_files(folder: Path, ending: str, text: str) -> None:
    for name in ("train-00", "train-01", "dev", "test"):
        (folder / f"{name}{ending}").write_text(text.replace("NAME", name))


def test_files_that_are_called_as_published_splits_are_told_where_the_task_does_not_use_them(tmp_path: Path) -> None:
    split_files(tmp_path, ".csv", "q,a\nNAME?,Yes\n")
    fields: dict[str, object] = {"kind": "table", "path": "*.csv", "question": "{q}", "answer": "{a}", "region": "all"}
    source = TableSource.model_validate(fields, context={"folder": tmp_path})
    [doubt] = notice(source, "all", BINARY).doubts
    assert doubt.startswith("the files dev.csv, test.csv, train-00.csv, train-01.csv seem to be published splits")
    [pattern] = re.findall(r"split_from_path: '(.*)'` under", doubt)
    used = TableSource.model_validate(fields | {"split_from_path": pattern}, context={"folder": tmp_path})
    assert notice(used, "all", BINARY).doubts == ()
    published = [example.published for example in table.read(used, "all", BINARY)]
    assert published == ["validation", "test", "train", "train"]


def test_so_are_chat_files(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "NAME?"}, {"role": "assistant", "content": "Yes"}]}
    split_files(tmp_path, ".jsonl", json.dumps(chat))
    fields: dict[str, object] = {"kind": "chat_jsonl", "path": "*.jsonl", "region": "all"}
    source = ChatJsonlSource.model_validate(fields, context={"folder": tmp_path})
    [doubt] = notice(source, "all", BINARY).doubts
    [pattern] = re.findall(r"split_from_path: '(.*)'` under", doubt)
    used = ChatJsonlSource.model_validate(fields | {"split_from_path": pattern}, context={"folder": tmp_path})
    assert [found.published for found in chat_jsonl.read(used, "all", BINARY)] == [
        "validation",
        "test",
        "train",
        "train",
    ]
    with pytest.raises(SourceError, match=r"dev\.jsonl: neither its name nor its folder's matches source"):
        list(chat_jsonl.read(used.model_copy(update={"split_from_path": "^(train|test)"}), "all", BINARY))


def test_a_split_is_named_by_the_records_or_by_the_files() -> None:
    fields = {"kind": "table", "path": "*.csv", "question": "{q}", "region": "all", "split_from_path": "^([a-z]+)"}
    with pytest.raises(ValueError, match="by the records or by split_from_path, not by both"):
        TableSource.model_validate(fields | {"split": "{set}"})


def test_answers_of_several_people_are_told_where_one_s_alone_are_read(tmp_path: Path) -> None:
    rows = "q,rater1,rater2,grade_10\nx?,Yes,No,5\ny?,No,No,4\n"
    [doubt] = look(tmp_path, rows, answer="{rater1}").doubts
    assert doubt.startswith("rater1, rater2 seem to be answers of several people, of which rater1 alone is read")
    assert 'write `answers: ["{rater1}", "{rater2}"]` under source' in doubt
