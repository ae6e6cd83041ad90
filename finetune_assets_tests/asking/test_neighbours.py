"""Which training examples a question is shown first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.asking.neighbours import nearest
from finetune_assets.asking.predictions import requests_of
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.errors import EvaluationError
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.pipeline.tasks import make_task


def row(name: str, question: str, split: str = "train", **more: Any) -> dict[str, Any]:
    usual = {"example_id": name, "split": split, "group": name, "question": question, "answer": "Yes", "image": None}
    return usual | more


def table(folder: Path, *rows: dict[str, Any]) -> Table:
    return write_table(UPath(folder / "clean.parquet"), pd.DataFrame(list(rows)))


TOPICS = [
    row("cat1", "the cat sleeps on the sofa"),
    row("cat2", "a cat sleeps on a sofa"),
    row("car1", "the car drives on the road"),
    row("car2", "a car drives on a road"),
]


def found(clean: Table, asked: dict[str, Any], k: int) -> list[str]:
    return [one["example_id"] for one in nearest(clean, pd.DataFrame([asked]), k)[asked["example_id"]]]


def test_the_most_alike_stand_last_beside_the_question(tmp_path: Path) -> None:
    shown = found(table(tmp_path, *TOPICS), row("q", "does the cat sleeps on the sofa", "test"), 2)
    assert shown == ["cat2", "cat1"]


def test_examples_of_the_questions_own_group_are_never_shown(tmp_path: Path) -> None:
    asked = row("q", "the cat sleeps on the sofa", "test", group="cat1")
    assert "cat1" not in found(table(tmp_path, *TOPICS), asked, 4)


def test_no_split_but_train_is_shown(tmp_path: Path) -> None:
    held_out = [row(f"v{k}", "the cat sleeps on the sofa", split) for k, split in
                enumerate(("validation", "calibration", "test"))]  # fmt: skip
    shown = found(table(tmp_path, *TOPICS, *held_out), row("q", "the cat sleeps on the sofa", "test"), 9)
    assert sorted(shown) == ["car1", "car2", "cat1", "cat2"]


def test_pictures_are_alike_by_what_they_show(tmp_path: Path) -> None:
    rows = [row(f"s{shade}", "Is it bright?", image=str(put(tmp_path / f"{shade}.png", picture(shade=shade))))
            for shade in (10, 30, 200, 240)]  # fmt: skip
    asked = row("q", "Is it bright?", "test", image=str(put(tmp_path / "q.png", picture(shade=236))))
    assert found(table(tmp_path, *rows), asked, 2) == ["s200", "s240"]


def test_questions_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    clean = table(tmp_path, row("a", "Why?"), row("b", "Why?"))
    with pytest.raises(EvaluationError, match="all ask the same, without images"):
        nearest(clean, pd.DataFrame([row("q", "Why?", "test")]), 1)


def test_too_few_training_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="needs 2 training examples or more, got 1"):
        nearest(table(tmp_path, row("a", "Why?")), pd.DataFrame([row("q", "How?", "test")]), 1)


def test_a_request_shows_them_with_their_answers_before_it_asks(tmp_path: Path) -> None:
    asked = row("q", "the cat sleeps on the sofa", "test")
    questions = pd.DataFrame([asked])
    [messages] = requests_of(make_task(), questions, nearest(table(tmp_path, *TOPICS), questions, 1))
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == "Yes" and messages[2]["content"].startswith("the cat sleeps on the sofa")
