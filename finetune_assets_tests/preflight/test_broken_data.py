"""Broken data sets and what is said of each before anything is run: the place and what to do about it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from finetune_assets.preflight import tasks
from finetune_assets.preflight.finding import Finding
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.preflight.broken_data import (
    PICTURES,
    SCORES,
    TABLE,
    rows,
    write_rows,
    write_scores,
    write_task,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a task `cells` that is found, and not yet there."""
    (tmp_path / "tasks").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINETUNE_ASSETS_API_KEY", raising=False)
    return tmp_path / "tasks" / "cells"


def found(regions: tuple[str, ...] = ()) -> list[Finding]:
    """What the check says of the task, but for the provider, which does not run."""
    return [finding for finding in tasks.check("cells", regions) if not finding.what.startswith("provider")]


def said(*states: str) -> str:
    """The words of all findings of these states, by default of bad ones."""
    return "\n".join(finding.words for finding in found() if finding.state in (states or ("bad",)))


def test_sound_data_is_told_in_numbers(folder: Path) -> None:
    write_rows(write_task(folder))
    assert [finding.state for finding in found()] == ["good", "good", "good"]
    assert "60 rows give 29 train, 11 validation, 8 calibration, 12 test" in said("good")
    assert "3 epochs: on two CPU cores about a minute" in said("good")


def test_training_is_estimated_and_refused_where_it_costs_more_than_its_budget(folder: Path) -> None:
    prices = "{training: 25}"
    write_rows(write_task(folder, provider="openai", prices=prices, budget_usd="0.5"))
    [words] = [finding.words for finding in found() if "USD" in finding.words]
    assert words == "training is about 493 tokens, 3 epochs, 0.04 USD"
    shutil.rmtree(folder)
    write_rows(write_task(folder, provider="openai", prices=prices, budget_usd="0.03"))
    assert "will cost about 0.04 USD, the budget is 0.03 USD; raise budget_usd" in said()


def test_images_are_counted_in_what_training_takes(folder: Path) -> None:
    task = write_task(folder, PICTURES, provider="openai", prices="{training: 25}", budget_usd="9")
    for i in range(60):
        put(task / f"{i}.png", picture(size=(16, 16 + i), shade=20 + 3 * i))
    write_rows(task, file=lambda i: f"{i}.png")
    [words] = [finding.words for finding in found() if "USD" in finding.words]
    n_tokens = int(words.removeprefix("training is about ").partition(" tokens")[0].replace(",", ""))
    n_train = int(re.findall(r"give (\d+) train", said("good"))[0])
    assert 85 + 10 < n_tokens / n_train < 85 + 40


def unreadable(folder: Path) -> None:
    write_rows(folder)
    (folder / "t.csv").chmod(0)


Writer = Callable[[Path], object]
GROUPED = TABLE + ', group: "{patient}"'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


def halved_parquet(folder: Path) -> None:
    rows().to_parquet(folder / "t.parquet", index=False)
    whole = (folder / "t.parquet").read_bytes()
    (folder / "t.parquet").write_bytes(whole[: len(whole) // 2])


NAMED: dict[str, tuple[str, Writer, str]] = {
    "no file": (TABLE, lambda _: None, ":4: source.path: t.csv: there is no file or folder at "),
    "an empty file": (TABLE, lambda f: (f / "t.csv").write_text(""), ":4: source."),
    "a header alone": (
        TABLE,
        lambda f: write_rows(f, 0),
        ":4: source: there is no record in it; put labelled examples",
    ),
    "a folder": (TABLE, lambda f: (f / "t.csv").mkdir(), ":4: source.path: "),
    "another ending": (TABLE.replace("t.csv", "t.xyz"), lambda f: (f / "t.xyz").write_text("a"), ":4: source.path: "),
    "no Parquet": (
        TABLE.replace("t.csv", "t.parquet"),
        lambda f: (f / "t.parquet").write_text("a"),
        ":4: source.path: ",
    ),
    "JSON of something else": (
        TABLE.replace("t.csv", "t.json"),
        lambda f: (f / "t.json").write_text('{"a": 1}'),
        ":4: source",
    ),
    "a wrong column of CSV": (TABLE.replace("{answer}", "{anwser}"), write_rows, ":4: source.answer: "),
    "a wrong column of Parquet": (
        TABLE.replace("{question}", "{qestion}").replace("t.csv", "t.parquet"),
        lambda f: rows().to_parquet(f / "t.parquet", index=False),
        ":4: source.question: ",
    ),
    "a wrong column of JSONL": (
        TABLE.replace("{answer}", "{anwser}").replace("t.csv", "t.jsonl"),
        lambda f: rows().to_json(f / "t.jsonl", orient="records", lines=True),
        "lacks the columns anwser; it has question, answer, region. Did you mean 'answer'?",
    ),
    "an empty group column": (
        GROUPED,
        lambda f: write_rows(f, patient=""),
        ":4: source.group: none of its first records",
    ),
    "empty questions": (TABLE, lambda f: write_rows(f, question=""), ":4: source.question: none of its first records"),
    "a pointer of Git LFS": (TABLE, lambda f: (f / "t.csv").write_bytes(POINTER), ":4: source.path: "),
    "a pointer for a Parquet file": (
        TABLE.replace("t.csv", "t.parquet"),
        lambda f: (f / "t.parquet").write_bytes(POINTER),
        "is a pointer of Git LFS and not the file itself; run `git lfs pull`",
    ),
    "a pointer for chats": (
        "kind: chat_jsonl, path: t.jsonl, region: north",
        lambda f: (f / "t.jsonl").write_bytes(POINTER),
        "is a pointer of Git LFS and not the file itself; run `git lfs pull`",
    ),
    "a web page": (
        TABLE,
        lambda f: (f / "t.csv").write_text("<!DOCTYPE html>\n<html><title>Sign in</title></html>"),
        ":4: source.path: ",
    ),
    "the error of a store": (
        TABLE.replace("t.csv", "t.json"),
        lambda f: (f / "t.json").write_text('<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>'),
        "is the error message of a store (XML)",
    ),
    "half a Parquet file": (
        TABLE.replace("t.csv", "t.parquet"),
        halved_parquet,
        "is not a readable Parquet file: its end is missing: copy it again",
    ),
    "a workbook called CSV": (
        TABLE,
        lambda f: (rows().to_excel(f / "t.xlsx", index=False), (f / "t.xlsx").rename(f / "t.csv")),
        ":4: source.path: ",
    ),
    "CSV called a workbook": (
        TABLE.replace("t.csv", "t.xlsx"),
        lambda f: rows().to_csv(f / "t.xlsx", index=False),
        "is a text, such as CSV, and no workbook; call it .csv",
    ),
    "compressed": (TABLE.replace("t.csv", "t.csv.gz"), lambda f: (f / "t.csv.gz").write_bytes(b"x"), "; unpack it"),
    "a pickle": (
        TABLE.replace("t.csv", "t.pkl"),
        lambda f: (f / "t.pkl").write_bytes(b"x"),
        "could run code: save its",
    ),
    "a pipe": (
        TABLE,
        lambda f: os.mkfifo(f / "t.csv"),
        ":4: source.path: t.csv: is neither a file nor a folder, but a",
    ),
    "JSON Lines called JSON": (
        TABLE.replace("t.csv", "t.json"),
        lambda f: rows().to_json(f / "t.json", orient="records", lines=True),
        "if each line is an object, call the file .jsonl",
    ),
    "prompts and completions": (
        "kind: chat_jsonl, path: t.jsonl, region: north",
        lambda f: (f / "t.jsonl").write_text('{"prompt": "Is it?", "completion": "Yes"}\n' * 20),
        'its keys are prompt, completion; read such lines by `kind: table` with question: "{prompt}"',
    ),
    "another delimiter than is stated": (
        TABLE + ', dialect: {delimiter: ","}',
        lambda f: rows().to_csv(f / "t.csv", sep=";", index=False),
        "Line 1 has them, its cells divided by ';': mend `source.dialect`",
    ),
    "no header": (
        TABLE,
        lambda f: rows(case=7).to_csv(f / "t.csv", header=False, index=False),
        "The first line must name the columns",
    ),
    "a message that has a column's name by chance": (
        TABLE.replace("{answer}", "{a}").replace("t.csv", "t.parquet"),
        lambda f: (f / "t.parquet").write_text("no table"),
        ":4: source.path: ",
    ),
    "no image folder": (
        "kind: image_qa, path: qa.json, images: pictures, region: north",
        lambda f: (f / "qa.json").write_text('[{"filename": "a.png", "question_answer": [["Is it?", 1]]}]'),
        ":4: source.images: ",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_the_source_names_and_is_not_there_is_told_at_its_key(name: str, folder: Path) -> None:
    source, write, words = NAMED[name]
    write(write_task(folder, source))
    told = said()
    assert words in told and told.count("\n") == 0 and f"{folder}/defs.yaml:4: source" in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told_at_its_key(folder: Path) -> None:
    unreadable(write_task(folder))
    assert "source.path: " in said() and "cannot be read" in said()


@pytest.mark.parametrize(
    ("source", "write", "words"),
    [
        (
            PICTURES,
            lambda f: write_rows(f, file=lambda i: f"x{i}.png"),
            "40 image_missing); the first: there is no file",
        ),
        (SCORES, lambda f: write_scores(f, float), "score_out_of_range, the first in "),
        (
            SCORES + ", doubtful_between: [0.2, 0.8]",
            lambda f: write_scores(f, lambda _: 0.5),
            "narrow `source.doubtful_b",
        ),
        (
            TABLE,
            lambda f: write_rows(f, answer="perhaps"),
            "of 60 examples none can be used. 60 are set aside as unparseab",
        ),
        (TABLE, lambda f: write_rows(f, question="Is it?"), "contradictory_answers, the first in "),
        (
            TABLE.replace("{question}", "{x}").replace("{answer}", "{question}").replace("{x}", "{answer}"),
            write_rows,
            "answer must be Yes or No",
        ),
    ],
    ids=["wrong folder", "percent", "all doubtful", "other words", "one question", "columns mixed up"],
)
def test_a_region_of_which_nothing_is_left_says_why_once(source: str, write: Writer, words: str, folder: Path) -> None:
    write(write_task(folder, source))
    told = said()
    assert words in told and told.count("\n") == 0


def test_images_that_are_none_are_told_once(folder: Path) -> None:
    write_rows(write_task(folder, PICTURES), file=lambda i: f"{i}.png")
    for i in range(60):
        (folder / f"{i}.png").write_bytes(b"no image")
    assert "of 40 images that were opened 40 cannot be used (40 image_unreadable); the first: " in said()
    assert "were they copied whole?" in said()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER, "it is a pointer of Git LFS and not the file itself; run `git lfs pull` in its repository"),
        (b"<html>404</html>", "it is a web page (HTML), such as one that asks to sign in; download the file itself"),
        (b"", "the file is empty; are these the images, and were they copied whole?"),
        (None, "is no file, but a folder, a pipe or a device; are these the images"),
    ],
    ids=["pointers", "web pages", "empty", "pipes"],
)
def test_what_lies_in_place_of_images_is_named(content: bytes | None, words: str, folder: Path) -> None:
    write_rows(write_task(folder, PICTURES), file=lambda i: f"{i}.png")
    for i in range(60):
        os.mkfifo(folder / f"{i}.png") if content is None else (folder / f"{i}.png").write_bytes(content)
    assert said().endswith(words) or words in said()


def test_a_file_in_a_cell_is_set_aside_and_hides_no_other_row(folder: Path) -> None:
    write_rows(write_task(folder), question=lambda i: "x" * 1_000_001 if i == 4 else f"Is {i} even?")
    assert "60 rows give" in said("good") and "1 are set aside" in said("good")


def test_a_column_in_the_prompt_is_refused_and_other_braces_are_told(folder: Path) -> None:
    prompt = "{system: 'A patient of {age}, {mood}; x = \\frac{1}{2}; {\"a\": 1}'}"
    write_rows(write_task(folder, prompt=prompt), age=40)
    bad, warning = [finding for finding in tasks.glance("cells") if finding.state != "good"]
    assert '"{age}" is a column, and those are not filled in here; write it in source.question' in bad.words
    assert '"{mood}" stays as it is written' in warning.words


def test_percentages_that_are_counts_are_told(folder: Path) -> None:
    write_rows(write_task(folder, sampling="{train: 50, validation: 10, calibration: 20, test: 20}"), 200)
    [words] = [finding.words for finding in tasks.glance("cells") if finding.state == "warning"]
    assert "sampling: whole numbers are counts: 100 examples of each region; 50 % of them is written 0.5" in words


def test_a_column_of_which_each_value_is_a_region_is_questioned_once(folder: Path) -> None:
    write_rows(write_task(folder, regions="discover"), region=lambda i: f"r{i}")
    assert "source.region: the data has 60 regions (r0, r1, r10, r11, r12, ...), each with a model" in said("warning")
    assert len(found()) < 10


def test_some_broken_images_are_a_warning(folder: Path) -> None:
    write_scores(write_task(folder, SCORES), lambda i: i / 60)
    (folder / "3.png").write_bytes(b"no image")
    (folder / "7.png").unlink()
    assert "cannot be used" in said("warning") or "were opened, and are whole" in said("good")
    assert said() == ""


def test_one_answer_alone_teaches_nothing(folder: Path) -> None:
    write_rows(write_task(folder), answer="Yes")
    assert "train has no 'No'; calibration has no 'No'; test has no 'No'; label examples that have it" in said()


def test_six_rows_are_too_few_with_every_seed(folder: Path) -> None:
    write_rows(write_task(folder), 6)
    assert "at least 10 for train, 1 for validation and 3 groups in calibration and in test are needed" in said()
    assert "of 200 seeds 0 (0.0%) divide its 6 groups so that every split has enough; label more examples" in said()


def test_ten_groups_are_a_matter_of_luck_and_the_lucky_seed_is_named(folder: Path) -> None:
    write_rows(write_task(folder, GROUPED), patient=lambda i: f"p{i // 6}")
    assert "`sampling.seed: " in said("warning") and "divide its 10 groups so that every split has enough" in said(
        "warning"
    )
    seed = said("warning").partition("`sampling.seed: ")[2].partition("`")[0]
    path = folder / "defs.yaml"
    path.write_text(path.read_text().replace("test: 0.2}", f"test: 0.2, seed: {seed}}}"))
    assert said() == "" and "so the results hang on the draw" in said("warning")


def test_another_seed_is_no_remedy_for_what_was_set_aside(folder: Path) -> None:
    # All with one of the answers are the same question, which counts once.
    write_rows(write_task(folder), 120, question=lambda i: f"Is {i if i % 2 else 0} even?")
    assert "has no 'Yes'" in said() and "sampling.seed" not in said("warning")


def test_rows_that_all_share_a_group_are_told_so(folder: Path) -> None:
    write_rows(write_task(folder, GROUPED), patient="p1")
    assert "all its 60 rows are of one group, 'p1', and no split divides a group; name another column" in said()


def test_rows_that_are_all_the_same_count_once(folder: Path) -> None:
    pd.concat([rows(1)] * 60).to_csv(write_task(folder) / "t.csv", index=False)
    assert "of 60 examples 1 can be used. 59 are set aside as duplicate, the first in " in said()
    assert "an example counts once" in said()


def test_a_region_that_the_data_lacks_is_told_with_the_nearest_spelling(folder: Path) -> None:
    write_rows(write_task(folder, regions="[north, sout]"), 120, region=lambda i: "north" if i % 4 < 2 else "south")
    assert "regions[1]: 'sout' is not in the data (did you mean south?); its regions are north, south" in said()
    assert "the data also has south, which no model is trained for; name them, or write discover" in said("warning")


def test_a_model_that_reads_text_alone_is_refused_for_images(folder: Path) -> None:
    write_scores(write_task(folder, SCORES, base_model="gpt-4o-mini"), lambda i: i / 60)
    assert "base_model: gpt-4o-mini reads text alone, and the examples have images; those that see: smollm2" in said()


def test_a_model_misspelt_is_refused_with_the_nearest(folder: Path) -> None:
    write_rows(write_task(folder, base_model="gpt-4o-mimi"))
    assert "base_model: 'gpt-4o-mimi' is no model that is known at local (did you mean gpt-4o-mini?)" in said()


def test_a_check_misspelt_is_refused_with_the_nearest(folder: Path) -> None:
    write_rows(write_task(folder, checks="{no_leaks: warn}"))
    assert f"{folder}/defs.yaml:9: checks.no_leaks: there is no such check (did you mean no_leakage?)" in said()


def test_only_the_regions_that_are_asked_for_are_looked_at(folder: Path) -> None:
    write_rows(write_task(folder, regions="[north, south]"), 120, region=lambda i: "north" if i % 4 < 2 else "south")
    assert {finding.what for finding in found(("south",))} == {"task cells", "cells/south"}
