import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import scored_images
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import BinaryAnswer, NumberAnswer
from finetune_assets.task.sources import ScoredImagesSource

HEADER = "image_url,score,region\n"


def read(table: Path, region: str = "r1", **settings: object) -> list[Example]:
    source = ScoredImagesSource.model_validate({"kind": "scored_images", "path": str(table), **settings})
    return list(scored_images.read(source, region, BinaryAnswer(kind="binary", positive="Yes", negative="No")))


def csv(tmp_path: Path, text: str | bytes) -> Path:
    table = tmp_path / "table.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    return table


def problems(examples: list[Example]) -> list[tuple[int | None, str | None]]:
    return [(example.line, example.problem) for example in examples]


def test_scores_above_the_threshold_are_positive(tmp_path: Path) -> None:
    table = csv(tmp_path, HEADER + "a.png,0.5,r1\nb.png,0.51,r1\n")
    assert [example.answer for example in read(table)] == ["No", "Yes"]
    assert [example.answer for example in read(table, threshold=0.4)] == ["Yes", "Yes"]


def test_scores_strictly_between_two_bounds_are_doubtful(tmp_path: Path) -> None:
    table = csv(tmp_path, HEADER + "a.png,0.4,r1\nb.png,0.5,r1\nc.png,0.6,r1\n")
    found = [example.doubt for example in read(table, doubtful_between=(0.4, 0.6))]
    assert found == [None, "the score 0.5 lies between 0.4 and 0.6", None]


def test_the_columns_may_have_other_names_and_a_spreadsheet_its_decimal_comma(tmp_path: Path) -> None:
    table = csv(tmp_path, "\ufefffile;probability;patient\r\nsub/a.PNG;0,83;p1\r\nb.png;0,2;p2\r\n")
    settings = {"image": "{file}", "score": "{probability}", "group": "{patient}", "region": "roof"}
    source = ScoredImagesSource.model_validate({"kind": "scored_images", "path": str(table), **settings})
    read_ = scored_images.read(source, "roof", BinaryAnswer(kind="binary"))
    found = [(e.image, e.score, e.answer, e.group) for e in read_]
    assert found == [(f"{tmp_path}/sub/a.PNG", 0.83, "Yes", "p1"), (f"{tmp_path}/b.png", 0.2, "No", "p2")]


def test_a_column_subgroup_is_taken_where_there_is_one(tmp_path: Path) -> None:
    table = csv(tmp_path, "image_url,score,region,subgroup\na.png,1,r1,night\nb.png,1,r1,\n")
    assert [example.subgroup for example in read(table)] == ["night", None]
    assert read(csv(tmp_path, HEADER + "a.png,1,r1\n"))[0].subgroup is None


def test_a_folder_of_tables_is_read_like_one(tmp_path: Path) -> None:
    for name in ("1.csv", "2.csv"):
        (tmp_path / name).write_text(HEADER + f"{name}.png,1,r1\n")
    assert [e.id for e in read(tmp_path)] == ["r1/1.csv.png", "r1/2.csv.png"]
    assert set(scored_images.regions(ScoredImagesSource(kind="scored_images", path=str(tmp_path)))) == {"r1"}


def test_an_absolute_path_of_an_image_in_the_table_s_folder_stays_as_it_is(tmp_path: Path) -> None:
    inside = f"{tmp_path}/a.png"
    assert [e.image for e in read(csv(tmp_path, HEADER + f"{inside},1,r1\n"))] == [inside]


def test_images_are_beside_the_table(tmp_path: Path) -> None:
    [example] = read(csv(tmp_path, HEADER + "sub/a.png,1,r1\n"))
    assert example.image == str(tmp_path / "sub" / "a.png")


def test_regions_are_compared_by_their_task_names(tmp_path: Path) -> None:
    table = csv(tmp_path, HEADER + "a.png,1,R2A\nb.png,1,Left lung\n")
    assert [e.id for e in read(table, "r2a")] == ["r2a/a.png"]
    assert [e.id for e in read(table, "left-lung")] == ["left-lung/b.png"]


@pytest.mark.parametrize(
    ("row", "problem", "detail"),
    [
        (",1,r1", "missing_field", "line 2 has no image_url"),
        ("a.png,,r1", "missing_field", "line 2 has no score"),
        ("a.png,high,r1", "unparseable_answer", "found 'high'"),
        ("a.png,nan,r1", "missing_field", "line 2 has no score"),
        ("a.png,1.2,r1", "score_out_of_range", "found 1.2"),
        ("a.png,-0.1,r1", "score_out_of_range", "found -0.1"),
        ("http://example.com/a.png,1,r1", "image_unreachable", "use https://"),
        ("/etc/a.png,1,r1", "image_outside", "name its folder: `image_root: ...`"),
        ("../a.png,1,r1", "image_outside", "leads out of the folder"),
        ("a.png,1,", "missing_field", "line 2 has no region"),
        ("a.png,1", "malformed_line", "2 cells, the header 3"),
        ("a.png,1,r1,extra", "malformed_line", "4 cells, the header 3"),
        ('"a.png,1,r1', "malformed_line", "opens a quote that is not closed"),
    ],
)
def test_a_bad_row_says_what_is_wrong_and_hides_no_other(tmp_path: Path, row: str, problem: str, detail: str) -> None:
    bad, good = read(csv(tmp_path, f"{HEADER}{row}\nb.png,1,r1\n"))
    assert (bad.line, bad.problem, bad.answer) == (2, problem, None)
    assert detail in bad.detail
    assert (good.id, good.line, good.problem) == ("r1/b.png", 3, None)


def test_a_row_that_names_no_region_is_reported_in_every_region(tmp_path: Path) -> None:
    table = csv(tmp_path, HEADER + "a.png,1,\nbroken\nb.png,1,r2\n")
    assert problems(read(table, "r1")) == [(2, "missing_field"), (3, "malformed_line")]
    assert problems(read(table, "r2")) == [(2, "missing_field"), (3, "malformed_line"), (4, None)]


def test_a_score_may_be_the_number_to_answer_with(tmp_path: Path) -> None:
    source = ScoredImagesSource(kind="scored_images", path=str(csv(tmp_path, HEADER + "a.png,0.456,r1\nb.png,7,r1\n")))
    answer = NumberAnswer(kind="number", template="about {}", maximum=1)
    found = [(e.answer, e.score, e.problem) for e in scored_images.read(source, "r1", answer)]
    assert found == [("about 0.46", 0.456, None), (None, 7, "score_out_of_range")]


def test_a_csv_row_in_another_encoding_than_the_file_is_malformed(tmp_path: Path) -> None:
    [bad, good] = read(csv(tmp_path, HEADER.encode() + b"caf\xe9.png,1,r1\nth\xc3\xa9.png,1,r1\n"))
    assert bad.problem == "malformed_line" and "the line is not UTF-8" in bad.detail
    assert good.problem is None


def test_a_truncated_json_line_is_reported_with_file_and_line(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl"
    table.write_text('{"image_url": "a.png", "score": 1, "region": "r1"}\n\n{"image_url": "b.png", "sco')
    good, bad = read(table)
    assert (good.problem, good.line) == (None, 1)
    assert (bad.id, bad.source, bad.line, bad.problem) == ("table.jsonl:3", str(table), 3, "malformed_line")
    assert "cut off" in bad.detail


def test_parquet_rows_are_read_with_groups(tmp_path: Path) -> None:
    rows = {"image_url": ["a.png", "b.png"], "score": [0.0, 1.0], "region": ["r1", "r1"], "group": ["p1", None]}
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    found = [(e.id, e.answer, e.line, e.group, e.problem) for e in read(tmp_path / "table.parquet")]
    assert found == [("r1/a.png", "No", 1, "p1", None), ("table.parquet:row-2", None, 2, None, "missing_field")]


def test_a_group_that_no_row_has_is_refused_with_the_nearest_column(tmp_path: Path) -> None:
    rows = [{"image_url": f"{n}.png", "score": 1, "region": "r1", "patient_id": n} for n in range(3)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    refused = r"lacks the columns patientid; it has .*, patient_id\. Did you mean 'patient_id'"
    with pytest.raises(SourceError, match=refused):
        read(tmp_path / "t.jsonl", group="{patientid}")


def test_spellings_of_one_group_are_one_and_rows_without_it_are_set_aside(tmp_path: Path) -> None:
    patients = [12, 12.0, " 012 ", "12", "N/A", "", None, "P1", "p1 "]
    rows = [
        {"image_url": f"{n}.png", "score": 1, "region": "r1", "patient": patient} for n, patient in enumerate(patients)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read(tmp_path / "t.jsonl", group="{patient}")
    assert [e.group for e in found] == ["12"] * 4 + [None] * 3 + ["p1"] * 2
    assert [e.problem for e in found] == [None] * 4 + ["missing_field"] * 3 + [None] * 2
    assert "line 5 has no patient, so nobody knows which rows it belongs to" in found[4].detail


def test_a_pattern_names_the_group_and_a_column_the_published_split(tmp_path: Path) -> None:
    table = csv(tmp_path, "image_url,score,region,set\nP1_a.png,1,r1,training\nP1_b.png,0,r1,Dev\nP2_a.png,1,r1,")
    found = read(table, group="{image_url}", group_pattern="^(P[0-9]+)_", split="{set}")
    assert [(e.group, e.published) for e in found] == [("p1", "train"), ("p1", "validation"), (None, None)]
    with pytest.raises(SourceError, match="'Dev', which is none of training"):
        read(table, split="{set}", splits={"training": "train"})


def test_a_name_that_the_pattern_does_not_match_is_told(tmp_path: Path) -> None:
    table = csv(tmp_path, "image_url,score,region\nP1_a.png,1,r1\nother.png,0,r1")
    found = read(table, group="{image_url}", group_pattern="^(P[0-9]+)_")
    assert found[1].problem == "missing_field"
    assert found[1].detail == "line 3 has no group: 'other.png' does not match source.group_pattern"


def test_what_is_no_table_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file or folder at .*none\.csv"):
        read(tmp_path / "none.csv")
    (tmp_path / "table.pdf").touch()
    with pytest.raises(SourceError, match=r"must end in \.csv, .*, \.parquet, .*, got '\.pdf'"):
        read(tmp_path / "table.pdf")
    with pytest.raises(SourceError, match="lacks the columns image_url, region; it has image, score. Did you mean"):
        read(csv(tmp_path, "image;score\n"))
    (tmp_path / "table.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="is not a readable Parquet file"):
        read(tmp_path / "table.parquet")


@given(st.binary(max_size=200).map(lambda data: data.replace(b"\r", b"") + b"\n\xc3\xa9"))
def test_every_line_of_any_csv_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    found = read(csv(tmp_path_factory.mktemp("csv"), HEADER.encode() + data))
    # Rows that name another region are not this region's, and blank lines are no rows.
    lines = [line for line in data.decode("utf-8", "replace").split("\n") if line.replace(",", " ").strip()]
    other_regions = sum(line.count(",") == 2 for line in lines)
    assert len(lines) - other_regions <= len(found) <= len(lines)
