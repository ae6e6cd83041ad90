"""What a person sees of the data stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from finetune_assets.dataset.filtering import DTYPES, Filtered
from finetune_assets.dataset.label_errors import LabelErrors
from finetune_assets.dataset.quarantine import DTYPES as QUARANTINE_DTYPES
from finetune_assets.dataset.table import Table, write_table
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.pipeline.shown import data_views
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.pipeline.tasks import make_task

BINARY = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def table(folder: Path, *rows: Mapping[str, object]) -> Table:
    known = {"example_id": "a", "split": "train", "question": "Bright?", "answer": "Yes"}
    frame = pd.DataFrame([{**dict.fromkeys(DTYPES), **known, **row} for row in rows], columns=list(DTYPES))
    return write_table(UPath(folder) / "t.parquet", frame.astype(DTYPES))


def champion(since: str, trained_at: str | None) -> Champion:
    kept = {"model": "ft:a", "provider": "local", "base_model": "m", "job_id": "j", "calibrator": {}, "value": 0.9}
    kept |= {"task_fingerprint": "f", "metric": "accuracy", "n_test": 9, "way": "checks"}
    return Champion(**kept, since=since, trained_at=trained_at)


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        (BINARY, {"Yes": [2, 0, 0, 0], "No": [0, 0, 0, 0]}),
        (ChoiceAnswer(kind="choice", options=["No", "Yes", "?"]), {"No": [0] * 4, "Yes": [2, 0, 0, 0], "?": [0] * 4}),
        (NumberAnswer(kind="number"), {"examples": [2, 0, 0, 1]}),
        (TextAnswer(kind="text"), {"examples": [2, 0, 0, 1]}),
    ],
)
def test_counts_have_every_split_and_answer(tmp_path: Path, answer: Answer, columns: dict[str, list[int]]) -> None:
    rows = table(tmp_path, {}, {}, {"split": "test", "answer": "other"}, {"split": None})
    counted = data_views.counts(rows, answer)
    assert counted.index.tolist() == ["train", "validation", "calibration", "test"]
    assert counted.to_dict("list") == columns


def test_numbers_and_lengths_of_texts_are_histograms_and_words_are_bars(tmp_path: Path) -> None:
    rows = table(tmp_path, *({"score": float(n)} for n in range(9)))
    counted = data_views.counts(rows, BINARY)
    number = data_views.answer_chart(rows, NumberAnswer(kind="number"), counted).value or ""
    binary = data_views.answer_chart(rows, BINARY, counted).value or ""
    text = data_views.answer_chart(rows, TextAnswer(kind="text"), counted).value or ""
    assert number.startswith("![answers](data:image/png;base64,") and text.startswith(
        "![answers](data:image/png;base64,"
    )
    assert binary.startswith("![examples by split and answer](data:image/png;base64,")


def test_labels_that_reviewers_changed_are_counted_by_split(tmp_path: Path) -> None:
    changed = {"source_answer": "No", "reviewed_at": "2026-03-02T00:00:00+00:00"}
    confirmed = changed | {"source_answer": "Yes"}
    rows = table(tmp_path, changed, changed | {"split": "test"}, confirmed, {"source_answer": "Yes"})
    told = data_views.relabelled(rows, None)
    assert told.startswith("Reviewers changed these labels: 1 train, 0 validation, 0 calibration, 1 test.")
    assert data_views.relabelled(table(tmp_path, confirmed), None) == ""


@pytest.mark.parametrize(
    ("since", "trained_at", "counts"),
    [
        ("2026-03-03", "2026-03-01", True),  # reviewed after it was trained, before it became the champion
        ("2026-03-03", "2026-03-03", False),
        ("2026-03-01", None, True),
        ("2026-03-03", None, False),
    ],
)
def test_a_champion_knew_the_labels_at_the_time_it_was_trained(
    tmp_path: Path, since: str, trained_at: str | None, counts: bool
) -> None:
    rows = table(tmp_path, {"source_answer": "No", "reviewed_at": "2026-03-02T00:00:00+00:00"})
    told = data_views.relabelled(rows, champion(since, trained_at))
    assert told.startswith("Since the champion ft:a was trained, reviewers changed") is counts
    assert bool(told) is counts


def test_examples_without_images_are_shown_as_texts(tmp_path: Path) -> None:
    shown = data_views.first_examples(table(tmp_path, {"question": "Is water wet?"}), 0)["first_examples"].value
    assert "| train | Is water wet? | Yes |" in shown


def test_long_texts_are_cut_where_they_are_shown(tmp_path: Path) -> None:
    shown = data_views.first_examples(table(tmp_path, {"question": "long " * 1000}), 0)["first_examples"].value
    assert len(shown) < 500 and "long …" in shown


def test_examples_with_images_are_a_contact_sheet(tmp_path: Path) -> None:
    path = put(tmp_path / "a.png", picture())
    views = data_views.first_examples(table(tmp_path, {"image": str(path), "image_sha256": "x"}), 3)
    assert views["near_duplicate_images"] == 3
    shown = views["contact_sheet"].value
    assert shown.startswith("![examples](data:image/png;base64,")


def test_chats_are_the_training_examples_with_their_own_system_message(tmp_path: Path) -> None:
    rows = table(tmp_path, {"split": "test", "question": "Hidden?"}, {"system": "Be brief."})
    shown = data_views.chats(rows, make_task()).value or ""
    assert "**system**: Be brief." in shown and "**assistant**: Yes" in shown and "Hidden?" not in shown


def test_what_was_set_aside_is_pictured_with_its_score(tmp_path: Path) -> None:
    path = put(tmp_path / "a.png", picture())
    frame = pd.DataFrame({"example_id": ["a"], "reason": "doubtful_label", "image": str(path), "answer": "Yes"})
    aside = write_table(UPath(tmp_path) / "q.parquet", frame.reindex(columns=list(QUARANTINE_DTYPES)))
    shown = data_views.quarantine(Filtered(aside, aside, Counter(doubtful_label=1), 9, None))["quarantine"].value
    assert shown.startswith("![examples](data:image/png;base64,") and str(path) not in shown


@pytest.mark.parametrize("address", ["s3://nowhere/a.png", "https://127.0.0.1/a.png"])
def test_images_that_a_network_would_have_to_be_asked_for_are_not_pictured(tmp_path: Path, address: str) -> None:
    rows = table(tmp_path, {"image": address, "example_id": "far"})
    [frame] = rows.chunks()
    aside = write_table(UPath(tmp_path) / "q.parquet", frame.reindex(columns=list(QUARANTINE_DTYPES)))
    shown = data_views.quarantine(Filtered(aside, aside, Counter(image_unreachable=1), 9, None))["quarantine"].value
    assert "![examples]" not in shown and "far" in shown


def test_different_questions_about_images_stand_below_them(tmp_path: Path) -> None:
    path = str(put(tmp_path / "a.png", picture()))
    rows = [{"image": path, "image_sha256": "x", "question": f"Is it {n}?"} for n in range(2)]
    shown = data_views.first_examples(table(tmp_path, *rows), 0)["contact_sheet"].value
    assert shown.endswith("| train | Is it 0? | Yes |\n| train | Is it 1? | Yes |")


def test_labels_that_were_not_judged_are_not_said_to_be_right(tmp_path: Path) -> None:
    found = LabelErrors("not looked for: too few", None, pd.DataFrame(columns=["row", "image"]))
    nothing = write_table(UPath(tmp_path) / "q.parquet", pd.DataFrame(columns=list(QUARANTINE_DTYPES)))
    shown = data_views.quarantine(Filtered(nothing, nothing, Counter(), 9, found))
    assert shown["likely_label_errors"].value == "Not looked for: too few."


def test_the_quarantine_shows_its_first_rows_and_how_many_more_there_are(tmp_path: Path) -> None:
    frame = pd.DataFrame({"example_id": [str(n) for n in range(30)], "reason": "duplicate", "line": 7})
    quarantine = write_table(UPath(tmp_path) / "q.parquet", frame.reindex(columns=list(QUARANTINE_DTYPES)))
    suspects = pd.DataFrame(
        [{"row": 1, "example_id": "b", "split": "test", "answer": "Yes", "likely": "No", "chance": 0.01, "image": None}]
    )
    found = LabelErrors("judged well", 0.9, suspects)
    shown = data_views.quarantine(Filtered(quarantine, quarantine, Counter(duplicate=30), 60, found))
    assert shown["quarantined"] == 30
    assert shown["by_reason"].value.endswith("| duplicate | 30 |")
    assert shown["quarantine"].value.endswith("And 10 more in the file.")
    assert "| 0 | 7 |" in shown["quarantine"].value
    assert "| b | test | Yes | No | 0.01 |" in shown["likely_label_errors"].value
