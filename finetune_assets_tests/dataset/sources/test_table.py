import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import table
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer
from finetune_assets.task.sources import TableSource
from finetune_assets_tests.dataset.pictures import picture

TEXT = TextAnswer(kind="text")
PRICE = NumberAnswer(kind="number", template="Price is ${}", minimum=0)


def read(path: Path, asked: Answer = TEXT, **settings: object) -> list[Example]:
    source = TableSource.model_validate({"kind": "table", "path": str(path), **settings})
    return list(table.read(source, "physics", asked))


def csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


def test_a_table_with_the_usual_columns_needs_no_mapping(tmp_path: Path) -> None:
    [made] = read(csv(tmp_path, "question,answer,region\nWhat is c?,the speed of light,Physics\nx,y,other\n"))
    assert (made.question, made.answer, made.line) == ("What is c?", "the speed of light", 2)


def test_every_part_may_be_made_of_several_columns(tmp_path: Path) -> None:
    path = csv(tmp_path, 'title,text,price,maker,shop\nPen,"blue,\nnew",1.2,Acme,physics\n')
    [made] = read(
        path,
        PRICE,
        question="How much is {title}?\n{text}",
        answer="{price} dollars",
        region="{shop}",
        group="{maker}/{title}",
    )
    assert made.question == "How much is Pen?\nblue,\nnew"
    assert (made.answer, made.score, made.group) == ("Price is $1.20", 1.2, "acme/pen")


def test_a_subgroup_is_made_of_columns_and_may_be_empty(tmp_path: Path) -> None:
    path = csv(tmp_path, "question,answer,camera,year\nQ?,a,old,2019\nR?,b,,\n")
    first, second = read(path, region="physics", subgroup="{camera} {year}")
    assert (first.subgroup, first.problem) == ("old 2019", None)
    assert (second.subgroup, second.problem) == (None, None)


def test_a_label_is_doubtful_where_its_row_says_why(tmp_path: Path) -> None:
    path = csv(tmp_path, "question,answer,region,sure\nQ?,a,physics,\nR?,b,physics,0.6\n")
    first, second = read(path, doubt="the labeller was sure of it by {sure}")
    assert (first.doubt, second.doubt) == (None, "the labeller was sure of it by 0.6")
    assert [first.problem, second.problem] == [None, None]
    with pytest.raises(SourceError, match="surety"):
        read(path, doubt="{surety}")


def test_the_support_follows_a_text_answer_after_its_separator(tmp_path: Path) -> None:
    path = csv(tmp_path, "question,correct_answer,support\nQ?,water,It is wet.\nR?,ice,\n")
    settings: dict[str, Any] = {"answer": "{correct_answer}", "support": "{support}", "region": "physics"}
    first, second = read(path, **settings)
    assert first.answer == "water Explanation: It is wet."
    assert second.answer == "ice", "an answer without an explanation is still an answer"
    [because, _] = read(path, TextAnswer(kind="text", separator="because"), **settings)
    assert because.answer == "water because It is wet."


@pytest.mark.parametrize(
    ("row", "problem", "detail"),
    [
        (",1,physics", "missing_field", "line 2 has no question"),
        ("Q,,physics", "empty_answer", "line 2 has no answer"),
        ("Q,1,", "missing_field", "line 2 has no region"),
        ("Q,1,??", "missing_field", "line 2: '??' cannot be a region's name"),
        ("Q,cheap,physics", "unparseable_answer", "answer must be one number, found the text 'cheap'"),
        ("Q,-1,physics", "score_out_of_range", "answer must be at least 0, found -1"),
        ("Q,1", "malformed_line", "2 cells, the header 3"),
    ],
)
def test_a_bad_row_says_what_is_wrong_and_hides_no_other(tmp_path: Path, row: str, problem: str, detail: str) -> None:
    bad, good = read(csv(tmp_path, f"question,answer,region\n{row}\nR,2,physics\n"), PRICE)
    assert (bad.line, bad.problem, bad.answer) == (2, problem, None)
    assert detail in bad.detail
    assert (good.line, good.problem) == (3, None)


def test_a_number_of_a_parquet_table_stays_what_it_is(tmp_path: Path) -> None:
    pd.DataFrame({"question": ["Q"], "answer": [1e-05], "region": ["physics"]}).to_parquet(tmp_path / "t.parquet")
    [made] = read(tmp_path / "t.parquet", NumberAnswer(kind="number", decimals=5))
    assert (made.score, made.answer, made.line) == (1e-05, "0.00001", 1)


def test_a_key_that_no_line_has_is_refused_with_those_that_they_have(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"Question": "Q", "Answer": "A"}')
    with pytest.raises(SourceError, match="it has Question, Answer. Did you mean 'Question', 'Answer'?"):
        read(tmp_path / "t.jsonl", region="physics")


def test_a_key_that_only_some_lines_have_is_missing_in_the_others(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"question": "Q", "answer": "A"}\n{"question": "R", "Answer": "A"}')
    _, bad = read(tmp_path / "t.jsonl", region="physics")
    words = "line 2 has no answer (did you mean Answer?); it has question, Answer"
    assert (bad.problem, bad.detail) == ("empty_answer", words)


def test_a_column_of_objects_is_looked_into(tmp_path: Path) -> None:
    rows = [{"qa": {"question": "Q", "answer": {"text": "A"}}, "region": "physics"}, {"qa": None, "region": "physics"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        made, bad = read(tmp_path / name, question="{qa.question}", answer="{qa.answer.text}")
        assert (made.question, made.answer) == ("Q", "A"), name
        assert bad.problem == "missing_field", name


def test_the_options_of_a_question_may_be_a_list(tmp_path: Path) -> None:
    rows = [{"question": "Q?", "choices": {"text": ["one", "two"]}, "answer": "B", "region": "physics"}]
    (tmp_path / "t.jsonl").write_text(json.dumps(rows[0]))
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    options = ChoiceAnswer(kind="choice", options=["A", "B"])
    for name in ("t.jsonl", "t.parquet"):
        [made] = read(tmp_path / name, options, question="{question} A {choices.text.0} B {choices.text.1}")
        assert (made.question, made.answer) == ("Q? A one B two", "B"), name
        [bad] = read(tmp_path / name, options, question="{question} C {choices.text.2}")
        assert "has no choices.text.2; it has " in (bad.detail or ""), name


def test_images_are_paths_beside_the_table_or_bytes_inside_it(tmp_path: Path) -> None:
    data = picture()
    images = [{"bytes": data, "path": "a.png"}, {"bytes": None, "path": "b.png"}, None]
    pd.DataFrame({"question": "Q", "answer": [0, 1, 0], "image": images}).to_parquet(tmp_path / "t.parquet")
    inside, beside, none = read(tmp_path / "t.parquet", BinaryAnswer(kind="binary"), region="physics", image="{image}")
    assert (inside.image, beside.image) == (data, str(tmp_path / "b.png"))
    assert (none.problem, none.detail) == ("image_missing", "row 3 has no image")


def test_one_question_may_be_asked_about_every_image(tmp_path: Path) -> None:
    path = csv(tmp_path, "answer,region,file\n1,physics,a.png\n0,physics,b.png\n")
    made = list(read(path, BinaryAnswer(kind="binary"), question="Is it cracked?", image="{file}"))
    assert [(e.question, Path(str(e.image)).name) for e in made] == [
        ("Is it cracked?", "a.png"),
        ("Is it cracked?", "b.png"),
    ]
    assert made[0].id != made[1].id


def test_the_same_question_has_the_same_id_wherever_it_stands(tmp_path: Path) -> None:
    one = read(csv(tmp_path, "question,answer,region\nQ,1,physics\nR,2,physics\n"))
    other = read(csv(tmp_path, "question,answer,region\nR,2,physics\nQ,1,physics\n"))
    assert [e.id for e in one] == [e.id for e in reversed(other)]


def test_a_text_without_a_column_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ValidationError, match=r'question must name a column in braces, such as "\{title\}"'):
        TableSource(kind="table", path="t.csv", question="title")
    with pytest.raises(ValidationError, match="region must be a column in braces"):
        TableSource(kind="table", path="t.csv", region="All of them")


def test_a_pattern_takes_the_region_and_the_group_out_of_a_file_s_name(tmp_path: Path) -> None:
    names = ["Physics_P1_a.png", "south_P1_b.png", "physics_P02_c.png", "P3.png"]
    for name in names:
        (tmp_path / name).write_bytes(picture())
    patterns: dict[str, object] = {"region_pattern": "^([^_]+)_", "group_pattern": "_(P[0-9]+)_"}
    columns: dict[str, object] = {"image": "{file}", "question": "Is it so?", "region": "{file}", "group": "{file}"}
    path = csv(tmp_path, "".join(["file,answer\n", *(f"{name},Yes\n" for name in names)]))
    made = read(path, TEXT, **columns, **patterns)
    assert [(example.group, example.problem) for example in made] == [
        ("p1", None),
        ("p2", None),
        (None, "missing_field"),
    ]
    assert "'P3.png' does not match source.region_pattern, so it has no region" in made[-1].detail
    source = TableSource.model_validate({"kind": "table", "path": str(path), **columns, **patterns})
    assert list(table.regions(source)) == ["physics", "south", "physics", ""]


def test_a_pattern_on_a_region_that_is_no_column_is_refused() -> None:
    with pytest.raises(ValidationError, match="region_pattern looks into the region: let that be a column"):
        TableSource(kind="table", path="t.csv", region="all", region_pattern="(.)")
