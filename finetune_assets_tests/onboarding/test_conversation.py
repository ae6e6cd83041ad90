"""`finetune-assets init` on data as people have it: what it proposes, how it is corrected, and what it writes."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from rich.console import Console

from finetune_assets.errors import SourceError, TaskError
from finetune_assets.onboarding.conversation import begin, stated
from finetune_assets.preflight import seeds
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.onboarding.beginning import begun, cells, table


def test_a_table_of_images_becomes_a_task_without_a_question(tmp_path: Path) -> None:
    task, shown = begun(cells(tmp_path))
    assert task.task == "labels"
    assert task.regions == "discover"
    assert task.answer.model_dump() == {"kind": "binary", "positive": "defekt", "negative": "intakt"}
    assert task.source.model_dump()["image"] == "{Bild}"
    assert task.prompt.user == "{question} Answer defekt or intakt."
    assert "120 examples. Regions: nord 60, süd 60. Answers: intakt 80, defekt 40." in shown


def test_a_folder_beside_the_working_one_is_found_again_though_its_task_has_its_name(empty_folder: Path) -> None:
    folder = empty_folder / "data" / "cells"
    for number in range(160):
        put(folder / ("front", "back")[number % 2] / ("ok", "nok")[number // 2 % 2] / f"{number}.png", picture())
    (empty_folder / "project").mkdir()
    os.chdir(empty_folder / "project")
    task, shown = begun(Path("../data/../data/cells"))
    assert task.source.model_dump()["path"] == str(folder)
    assert "160 examples. Regions: back 80, front 80. Answers: nok 80, ok 80." in shown


def test_a_part_is_corrected_by_answering(tmp_path: Path) -> None:
    answers = iter(["group", "Modul", "region", "none", "question", "Is it broken?", ""])
    task, _ = begun(cells(tmp_path), ask=lambda _: next(answers))
    source = task.source.model_dump()
    assert (source["group"], source["question"], task.regions) == ("{Modul}", "Is it broken?", ["all"])


def test_what_is_said_beforehand_is_not_asked(tmp_path: Path) -> None:
    task, _ = begun(cells(tmp_path), "task=parts", "group=Modul", "provider=openai")
    assert (task.task, task.provider, task.source.model_dump()["group"]) == ("parts", "openai", "{Modul}")


def test_rows_that_would_be_set_aside_are_told_with_their_reason(tmp_path: Path) -> None:
    path = cells(tmp_path)
    path.write_text(path.read_text() + "gone.png,intakt,Nord,M1\n")
    _, shown = begun(path)
    assert "Set aside: 1 image_missing, first: there is no file" in shown


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = cells(tmp_path)
    begun(path)
    with pytest.raises(TaskError, match=r"tasks/labels/defs.yaml is there already; take another name"):
        begun(path)


def test_nothing_is_written_by_who_leaves(tmp_path: Path, empty_folder: Path) -> None:
    assert begin(cells(tmp_path), {}, Console(quiet=True), lambda _: "q") is None
    assert not list(empty_folder.iterdir())


def test_chats_keep_their_own_questions(tmp_path: Path) -> None:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"How much is thing {n}?"},
                {"role": "assistant", "content": f"Price is ${n}.00"},
            ],
            "metadata": {"shop": "north" if n % 2 else "south"},
        }
        for n in range(1, 90)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    task, _ = begun(path)
    assert task.answer.model_dump()["template"] == "Price is ${}"
    assert task.prompt.user == "{question}"


def test_questions_beside_images_are_found_with_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    for n in range(12):
        put(folder / "image_letters" / f"{n}.png", picture(shade=20 * n))
    entries = [
        {"filename": f"{n}.png", "question_answer": [{"question": "Is A above B?", "answer": n % 2}]} for n in range(12)
    ]
    (folder / "qa_letters.json").write_text(json.dumps(entries))
    task, _ = begun(folder)
    assert task.source.model_dump()["images"] == "image_letters"
    assert task.answer.kind == "binary"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "no", "there is no such file or folder"),
        (lambda folder: put(folder / "one.png", picture()), "no source reads a .png"),
        (lambda folder: folder, "holds neither a table nor folders of images by class"),
    ],
)
def test_what_no_source_reads_is_refused_with_what_would_be(tmp_path: Path, make: Any, words: str) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(SourceError, match=words):
        begin(make(tmp_path / "data"), {}, Console(quiet=True), None)


def test_two_tables_in_one_folder_have_to_be_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    table(folder / "a.csv", [{"question": "x", "answer": "y"}])
    table(folder / "b.csv", [{"name": "x"}])
    with pytest.raises(SourceError, match=r"several tables \(a.csv, b.csv\); name the one that has the labels"):
        begin(folder, {}, Console(quiet=True), None)


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TaskError, match="got 'colour=red'"):
        stated(["colour=red"])


def test_folders_by_class_are_a_task_with_their_published_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("crack", "ok"):
            for n in range(6):
                put(tmp_path / "photos" / split / name / f"{n}.png", picture(shade=20 * n))
    task, _ = begun(tmp_path / "photos")
    assert task.source.model_dump()["split"] == "{split}"
    assert task.answer.model_dump() == {"kind": "binary", "positive": "crack", "negative": "ok"}


def test_drawn_objects_are_asked_about_by_category(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(20)]
    for image in images:
        put(tmp_path / "images" / str(image["file_name"]), picture(shade=10 + 10 * int(str(image["id"]))))
    found = {
        "images": images,
        "categories": [{"id": 1, "name": "crack"}, {"id": 2, "name": "hole"}],
        "annotations": [{"image_id": n, "category_id": 1 + (n > 3)} for n in range(12)],
    }
    (tmp_path / "instances.json").write_text(json.dumps(found))
    task, shown = begun(tmp_path / "instances.json")
    assert (task.source.model_dump()["category"], task.answer.kind) == ("hole", "binary")
    assert "20 examples. Regions: all 20. Answers: No 12, Yes 8." in shown
    counted, _ = begun(tmp_path / "instances.json", "task=cracks", "category=crack", "kind=number")
    assert counted.answer.kind == "number"


def test_images_with_scores_are_scored_images(tmp_path: Path) -> None:
    for n in range(30):
        put(tmp_path / f"{n}.png", picture(shade=5 * n))
    rows = [{"file": f"{n}.png", "probability": n / 30} for n in range(30)]
    task, _ = begun(table(tmp_path / "scores.csv", rows))
    assert task.source.kind == "scored_images"


def test_scores_in_percent_are_scores(tmp_path: Path) -> None:
    for n in range(30):
        put(tmp_path / f"{n}.png", picture(shade=20 + 5 * n))
    rows = [{"file": f"{n}.png", "probability": f"{3 * n} %"} for n in range(30)]
    task, shown = begun(table(tmp_path / "scores.csv", rows))
    assert task.source.kind == "scored_images" and "30 examples" in shown


def test_a_table_without_a_question_asks_by_all_that_a_row_tells(tmp_path: Path) -> None:
    rows = [
        {"Nr": n, "Stadtteil": "Süd" if n % 2 else "Mitte", "Fläche m²": 20 + n % 50, "Miete (€)": 9 * (20 + n % 50)}
        for n in range(120)
    ]
    task, _ = begun(table(tmp_path / "Häuser.csv", rows))
    assert task.task == "haeuser" and task.answer.kind == "number"
    question = task.source.model_dump()["question"]
    assert question == "Stadtteil: {Stadtteil}, Fläche m²: {Fläche m²}. What is Miete (€)?"


def test_several_people_s_answers_are_votes_and_a_column_that_asks_is_the_question(tmp_path: Path) -> None:
    for n in range(40):
        put(tmp_path / f"n{n}.png", picture(shade=20 + 5 * n))
    rows = [
        {"Photo": f"n{n}.png", "Inspector": who, "Weld OK?": "no" if n % 2 else "yes"}
        for n in range(40)
        for who in ("Anna", "Ben", "Cem")
    ]
    task, shown = begun(table(tmp_path / "welds.csv", rows))
    source = task.source.model_dump()
    assert (source["annotator"], source["question"]) == ("{Inspector}", "Weld OK?") and "40 examples" in shown


def test_what_cannot_be_a_task_yet_says_which_part_is_missing(tmp_path: Path) -> None:
    path = table(tmp_path / "numbers.csv", [{"a": n, "b": n * 2} for n in range(9)])
    with pytest.raises(TaskError, match="no column can be the question; name it by --set question=COLUMN: a, b"):
        begun(path)


def test_region_and_group_in_the_names_of_images_are_proposed_and_may_be_corrected(tmp_path: Path) -> None:
    rows = []
    for n in range(120):
        name = f"{'north' if n % 2 else 'south'}_P{n // 4:03}_slice{n % 4:02}.png"
        put(tmp_path / "imgs" / name, picture(size=(16, 16), shade=20 + n))
        rows.append({"file": f"imgs/{name}", "label": "crack" if n % 3 == 0 else "intact"})
    path = table(tmp_path / "labels.csv", rows)
    task, shown = begun(path)
    source = task.source.model_dump()
    assert (source["region"], source["group"], task.regions) == ("{file}", "{file}", "discover")
    assert "Regions: north 60, south 60." in shown and "p1 " in shown
    answers = iter(["region", "none", "group", r"{file} by imgs/([a-z]+)_", "task", "other", ""])
    task, shown = begun(path, ask=lambda _: next(answers))
    source = task.source.model_dump()
    assert (task.regions, source["group_pattern"]) == (["all"], r"imgs/([a-z]+)_")


def test_names_of_images_beside_questions_tell_their_group(tmp_path: Path) -> None:
    entries = []
    for n in range(24):
        put(tmp_path / "image_ct" / f"case{n // 3}_{n}.png", picture(shade=5 * n))
        asked = [{"question": "Is A above B?", "answer": n % 2}]
        entries.append({"filename": f"case{n // 3}_{n}.png", "question_answer": asked})
    (tmp_path / "qa_ct.json").write_text(json.dumps(entries))
    task, _ = begun(tmp_path / "qa_ct.json")
    assert task.source.model_dump()["group_pattern"] == r"(?:^|[/\\_ -])(case[0-9]+)[/\\_. -]"


def test_numbers_with_a_decimal_comma_are_numbers(tmp_path: Path) -> None:
    for n in range(60):
        put(tmp_path / f"{n}.png", picture(shade=4 * n))
    rows = [
        {"Bild": f"{n}.png", "Beschreibung": f"Stuhl aus Eiche {n}", "Preis": f"1.{n:03},{n % 100:02}"}
        for n in range(60)
    ]
    path = tmp_path / "preise.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    task, _ = begun(path)
    answer = task.answer.model_dump()
    assert (answer["kind"], answer["decimals"], answer["minimum"]) == ("number", 2, 0)


def test_a_table_of_an_encoding_that_is_not_certain_is_read_once_it_is_named(tmp_path: Path) -> None:
    lines = [f"{n} 番の亀裂はありますか,{'異常' if n % 2 else '正常'}" for n in range(40)]
    path = tmp_path / "shoken.csv"
    path.write_text("\n".join(["質問,所見", *lines]), "shift_jis")
    with pytest.raises(SourceError, match="not UTF-8, .* name its encoding, as in --set encoding=shift_jis"):
        begun(path)
    with pytest.raises(SourceError, match="encoding: .*'klingon' is no encoding of texts"):
        begun(path, "encoding=klingon")
    task, shown = begun(path, "encoding=shift_jis", "question=質問", "answer=所見")
    assert task.source.model_dump()["dialect"]["encoding"] == "shift_jis"
    assert "40 examples" in shown and "異常" in shown


def test_a_task_is_named_after_the_folder_where_the_file_s_name_says_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "Hip X-rays"
    for part in ("left", "right"):
        for n in range(12):
            put(folder / f"image_{part}" / f"case{n // 3}_{n}.png", picture(shade=20 * n))
        asked = [{"question": "Is A above B?", "answer": 1}]
        entries = [{"filename": f"case{n // 3}_{n}.png", "question_answer": asked} for n in range(12)]
        (folder / f"qa_{part}.json").write_text(json.dumps(entries))
    task, _ = begun(folder, "kind=text")
    source = task.source.model_dump()
    assert (task.task, source["group_pattern"]) == ("hip_x_rays", r"(?:^|[/\\_ -])(case[0-9]+)[/\\_. -]")


def test_a_seed_is_chosen_that_gives_every_split_enough(tmp_path: Path) -> None:
    rows = [
        {"question": f"Is {n} even?", "answer": "yes" if n % 2 == 0 else "no", "site": f"s{n % 2}", "patient": n // 4}
        for n in range(120)
    ]
    rows = [row | {"site": "north" if n < 60 else "south"} for n, row in enumerate(rows)]
    task, _ = begun(table(tmp_path / "few.csv", rows))
    regions = [
        [(str(row["patient"]), "Yes" if row["answer"] == "yes" else "No") for row in rows if row["site"] == site]
        for site in ("north", "south")
    ]
    assert task.source.model_dump()["group"] == "{patient}"
    assert seeds.first(task, regions) == task.sampling.seed
    assert seeds.first(task, [[("one", "Yes"), ("one", "No")] * 30]) is None


REPORT = [["Raport kontroli, maj 2026"], [], ["numer", "linia", "opis usterki", "wynik"]]
FOUND = [
    [f"SN-{n}", f"L{n % 2}", f"brak uwag, {n} mm" if n % 3 else f"rysa, {n} mm", "dobry" if n % 3 else "zły"]
    for n in range(90)
]


@pytest.mark.parametrize("name", ["report.csv", "exported.csv", "report.xlsx"])
def test_what_stands_above_the_header_is_no_header(name: str, tmp_path: Path) -> None:
    rows = [*REPORT, *FOUND]
    if name == "report.csv":
        (tmp_path / name).write_text("\n".join(";".join(row) for row in rows))
    elif name == "exported.csv":  # as spreadsheets do, with all cells of every row
        (tmp_path / name).write_text("\n".join(";".join([*row, *[""] * (4 - len(row))]) for row in rows))
    else:
        book = openpyxl.Workbook()
        for row in rows:
            book.worksheets[0].append(row)
        book.save(tmp_path / name)
    task, _ = begun(tmp_path / name)
    assert (task.source.question, task.source.answer) == ("{opis usterki}", "{wynik}")  # pyright: ignore


def nested(n: int) -> dict[str, Any]:
    choices = {"text": [f"{n + k} in all" for k in range(4)], "label": list("ABCD")}
    return {"question": f"What is {n} + 1?", "choices": choices, "answerKey": "BD"[n % 2]}


def by_place(n: int) -> dict[str, Any]:
    return {"question": f"What is {n} + 1?", "options": [f"{n + k}" for k in range(4)], "answer": n % 4}


def apart(n: int) -> dict[str, Any]:
    return {"question": f"Which is {n}?", **{f"option_{c}": f"{n}{c}" for c in "abcd"}, "answer": "ABCD"[n % 4]}


def counted_otherwise(n: int) -> dict[str, Any]:
    return {"question": f"Which is {n}?", **{f"op{c}": f"{n}{c}" for c in "abcd"}, "answer": n % 4}


def of_two(n: int) -> dict[str, Any]:
    return {"question": f"How is {n} made?", "sol1": f"{n} by hand", "sol2": f"{n} by tool", "label": n % 2}


def as_text(n: int) -> dict[str, Any]:
    return {"question": f"Which is {n}?", "choices": f"['{n}a', '{n}b', '{n}c']", "answer": "ABC"[n % 3]}


def by_letter(n: int) -> dict[str, Any]:
    return {"question": f"Which is {n}?", "options": {c: f"{n}{c}" for c in "ABC"}, "answer": "ABC"[n % 3]}


def of_some_lengths(n: int) -> dict[str, Any]:
    return {"question": f"Which is {n}?", "options": [f"{n}{c}" for c in "abcd"[: 3 + n % 2]], "answer": "ABC"[n % 3]}


@pytest.mark.parametrize(
    ("row", "asked", "options"),
    [
        (
            nested,
            "{question}\nA: {choices.text.0}\nB: {choices.text.1}\nC: {choices.text.2}\nD: {choices.text.3}",
            "ABCD",
        ),
        (by_place, "{question}\n0: {options.0}\n1: {options.1}\n2: {options.2}\n3: {options.3}", "0123"),
        (apart, "{question}\nA: {option_a}\nB: {option_b}\nC: {option_c}\nD: {option_d}", "ABCD"),
        (counted_otherwise, "{question}\n0: {opa}\n1: {opb}\n2: {opc}\n3: {opd}", "0123"),
        (of_two, "{question}\n0: {sol1}\n1: {sol2}", "01"),
        (as_text, "{question}\nAnswers, from A on: {choices}", "ABC"),
        (by_letter, "{question}\nA: {options.A}\nB: {options.B}\nC: {options.C}", "ABC"),
        (of_some_lengths, "{question}\nAnswers, from A on: {options}", "ABCD"),
    ],
)
def test_whoever_is_asked_for_a_letter_is_shown_what_it_stands_for(
    row: Callable[[int], dict[str, Any]], asked: str, options: str, tmp_path: Path
) -> None:
    path = put(tmp_path / "quiz.jsonl", "\n".join(json.dumps(row(n)) for n in range(60)).encode())
    task, said = begun(path)
    assert task.source.question == asked  # pyright: ignore
    assert task.answer.options == list(options)  # pyright: ignore
    assert task.prompt.user == f"{{question}}\nAnswer with one of: {', '.join(options)}."
    assert "60 examples" in said


def test_answers_that_may_be_counted_from_0_or_1_are_not_guessed(tmp_path: Path) -> None:
    rows = [{**by_place(n), "answer": 1 + n % 3} for n in range(60)]
    path = put(tmp_path / "quiz.jsonl", "\n".join(map(json.dumps, rows)).encode())
    with pytest.raises(TaskError, match="counted from 0 or 1 in options is not certain, as none is 0 or 4; name the"):
        begun(path)


def test_a_header_that_begins_with_a_number_sign_is_one(tmp_path: Path) -> None:
    rows = "".join(f"{n}\tHow warm is it at {n} h?\t{'yn'[n % 2]}\n" for n in range(60))
    path = put(tmp_path / "t.tsv", f"# made in May, by hand\n#id\tquestion\tlabel\n{rows}".encode())
    task, _ = begun(path)
    assert task.source.question == "{question}"  # pyright: ignore


def test_a_question_that_a_person_has_named_is_asked_as_it_is(tmp_path: Path) -> None:
    path = put(tmp_path / "quiz.jsonl", "\n".join(json.dumps(by_place(n)) for n in range(60)).encode())
    task, _ = begun(path, "question=question")
    assert task.source.question == "{question}"  # pyright: ignore


def test_an_instruction_is_asked_with_what_it_is_about(tmp_path: Path) -> None:
    rows = [{"instruction": "Stop or run?", "input": f"{n} C", "output": ["stop", "run"][n % 2]} for n in range(60)]
    task, _ = begun(put(tmp_path / "alpaca.json", json.dumps(rows).encode()))
    assert task.source.question == "{instruction}\n{input}"  # pyright: ignore


def test_a_question_that_is_the_same_for_all_texts_is_none_and_for_all_images_is_one(tmp_path: Path) -> None:
    for n in range(60):
        put(tmp_path / f"{n}.png", picture(size=(16, 16), shade=20 + n))
    rows = [
        {"task": "Is it hot?", "note": f"{n} C in May", "image": f"{n}.png", "label": "yn"[n % 2]} for n in range(60)
    ]
    pictured, _ = begun(table(tmp_path / "pictured.csv", [{**row, "question": row["task"]} for row in rows]))
    assert pictured.source.question == "{question}"  # pyright: ignore
    told = [{"question": row["task"], "remark": row["note"], "label": row["label"]} for row in rows]
    written, _ = begun(table(tmp_path / "told.csv", told))
    assert written.source.question == "{remark}"  # pyright: ignore


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"conversations": [{"from": "human", "value": "?"}]}, "the ShareGPT format; write each as"),
        ({"contents": [{"role": "user", "parts": []}]}, "Gemini's format; write each as"),
        ({"custom_id": "1", "body": {"messages": []}}, "requests of a batch"),
        (
            {"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []},
            "a better and a worse answer",
        ),
    ],
)
def test_files_without_right_answers_and_chats_of_other_makers_are_refused_by_name(
    record: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = put(tmp_path / "rows.jsonl", "\n".join([json.dumps(record)] * 60).encode())
    with pytest.raises(SourceError, match=words):
        begun(path)


def test_the_folder_that_one_works_in_is_found_again(empty_folder: Path) -> None:
    for number in range(60):
        put(empty_folder / ("ok", "nok")[number % 2] / f"{number}.png", picture(shade=20 + number))
    task, shown = begun(Path())
    assert (task.task, task.source.model_dump()["path"]) == ("work", str(empty_folder))
    assert "work: 60 images" in shown


def test_a_number_of_the_row_is_no_answer(tmp_path: Path) -> None:
    rows = [{"question_id": n, "text": f"What are {n} things of one kind?"} for n in range(60)]
    with pytest.raises(TaskError, match="no column can be the "):
        begun(table(tmp_path / "questions.csv", rows))


def test_answers_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    rows = [{"text": f"What are {n} things of one kind?", "label": "yes"} for n in range(60)]
    with pytest.raises(TaskError, match="column label says 'yes' in every row, so there is nothing to learn"):
        begun(table(tmp_path / "same.csv", rows))
