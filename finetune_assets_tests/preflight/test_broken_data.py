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
