from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import sql
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import SqlSource
from finetune_assets.task.answers import BinaryAnswer

QUERY = "SELECT text, label, site FROM findings ORDER BY id"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "labels.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE findings (id INTEGER, text TEXT, label INTEGER, site TEXT)")
        rows = [(1, "Is it broken?", 1, "Nord"), (2, "And this?", 0, "Nord"), (3, "Elsewhere?", None, "Süd")]
        db.executemany("INSERT INTO findings VALUES (?, ?, ?, ?)", rows)
    return path


def read(region: str = "nord", **settings: Any) -> list[Example]:
    fields = {"kind": "sql", "query": QUERY, "question": "{text}", "answer": "{label}", "region": "{site}"}
    return list(sql.read(SqlSource.model_validate(fields | settings), region, BinaryAnswer(kind="binary")))


def test_the_rows_of_a_query_are_examples(database: Path) -> None:
    first, second = read(path=str(database))
    assert (first.question, first.answer, first.line) == ("Is it broken?", "Yes", 1)
    assert second.answer == "No"
    [empty] = read("süd", path=str(database))
    assert empty.problem == "empty_answer"


def test_the_address_comes_from_the_environment(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELS_DB", f"sqlite:///{database}")
    assert len(read(url_from="LABELS_DB")) == 2
    monkeypatch.delenv("LABELS_DB")
    with pytest.raises(SourceError, match="LABELS_DB: the environment variable that `url_from` names is not set"):
        read(url_from="LABELS_DB")


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELS_DB", "nodialect://me:hunter2@host/db")
    with pytest.raises(SourceError) as told:
        read(url_from="LABELS_DB")
    assert "hunter2" not in str(told.value)


def test_a_query_changes_nothing(database: Path) -> None:
    with pytest.raises(SourceError, match="readonly"):
        read(path=str(database), query="INSERT INTO findings VALUES (4, 'x', 1, 'Nord') RETURNING text, label, site")


def test_a_column_that_the_query_does_not_give_is_refused(database: Path) -> None:
    with pytest.raises(SourceError, match="lacks the columns labell"):
        read(path=str(database), answer="{labell}")
    with pytest.raises(SourceError, match="no such table: finding"):
        read(path=str(database), query="SELECT * FROM finding")


def test_there_is_one_database() -> None:
    with pytest.raises(ValidationError, match="exactly one of url_from and path must be given"):
        SqlSource.model_validate({"kind": "sql", "query": QUERY})
