"""Questions that show several images: a part without fault beside the one to be judged, or a prior study."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import select

from finetune_assets.asking.predictions import requests_of
from finetune_assets.feedback.app.review_api import image_urls
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.offers import review_item
from finetune_assets.feedback.store.schema import items
from finetune_assets.task import Task
from finetune_assets_tests.dataset.belonging.test_look_alikes import cell, encoded
from finetune_assets_tests.dataset.pictures import put
from finetune_assets_tests.pipeline.tasks import Project, evaluations, failures, make_task, words

N = 80
DATA_STAGES = ("human_feedback", "sampled_examples", "filtered_qa", "training_jsonl", "validation_report")
GOLDEN_AND_PART = [
    {"image": "{reference}", "label": "A part without fault:"},
    {"image": "{file}", "label": "This part:"},
]


def part(number: int) -> bytes:
    """A picture of its own, of a kind that goes to the provider byte for byte."""
    return encoded(cell(number, 64).convert("RGB"))


def write_parts(folder: Path, reference: str = "golden.png") -> None:
    """A table of parts, each beside one without fault; and the part before it."""
    put(folder / "golden.png", part(1000))
    with (folder / "parts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["reference", "prior", "file", "answer"])
        for number in range(N):
            put(folder / f"{number}.png", part(number))
            prior = f"{number - 1 if number % 4 else number}.png"
            table.writerow([reference, prior, f"{number}.png", "Yes" if number // 2 % 2 else "No"])


def project(folder: Path, images: list[Any], **changes: Any) -> Project:
    source = {"kind": "table", "path": str(folder / "parts.csv"), "images": images}
    task = make_task(
        source=source | {"question": "Is it broken?", "region": "mono"}, filtering={}, **{"regions": ["mono"]} | changes
    )
    return Project(task, folder / "outputs")


def prepared(made: Project) -> Project:
    done = made.run(*DATA_STAGES)
    assert done.success, failures(done)
    assert evaluations(done)["no_leakage"].passed, words(done, "no_leakage")
    assert evaluations(done)["valid_format"].passed, words(done, "valid_format")
    return made


def sampled(made: Project) -> Any:
    """The sampled examples, as a frame."""
    return pd.read_parquet(made.output("sampled_examples", ".parquet"))


def lines(made: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in made.output("training_jsonl", "/train.jsonl").read_text().splitlines()]


def shown_in(content: list[dict[str, Any]]) -> list[str]:
    """The texts of a message, and the first digits of the hashes of its images, in their order."""
    said = []
    for part in content:
        if part["type"] == "text":
            said.append(part["text"])
        else:
            data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            said.append(hashlib.sha256(data).hexdigest()[:8])
    return said


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_all_images_are_asked_in_their_order_each_after_its_label(tmp_path: Path) -> None:
    write_parts(tmp_path)
    made = prepared(project(tmp_path, GOLDEN_AND_PART))
    row = sampled(made).loc[lambda rows: rows["split"] == "train"].iloc[0]
    expected = [
        *("Is it broken? Answer Yes or No.", "A part without fault:", digest(tmp_path / "golden.png"), "This part:"),
        digest(Path(row["image"])),
    ]
    assert shown_in(lines(made)[0]["messages"][-2]["content"]) == expected
    [asked] = requests_of(made.task, pd.DataFrame([row]))
    assert shown_in(asked[-1]["content"]) == expected


def test_a_part_without_fault_beside_every_part_merges_no_groups_and_is_told(tmp_path: Path) -> None:
    write_parts(tmp_path)
    made = prepared(project(tmp_path, GOLDEN_AND_PART))
    assert sampled(made)["group"].nunique() == N
    assert made.metadata("sampled_examples")["reference_images"].startswith("1: shown beside at least half")


@pytest.mark.parametrize("said", [{"image": "golden.png"}, {"image": "{reference}", "reference": True}])
def test_a_reference_that_the_task_names_is_one_however_rare(tmp_path: Path, said: dict[str, Any]) -> None:
    write_parts(tmp_path)
    rows = (tmp_path / "parts.csv").read_text().replace("golden.png", "other.png", 70)
    put(tmp_path / "other.png", part(1001))
    (tmp_path / "parts.csv").write_text(rows)
    made = prepared(project(tmp_path, [said, "{file}"]))
    assert sampled(made)["group"].nunique() == N
    assert "reference_images" not in made.metadata("sampled_examples")


def test_an_example_stays_with_those_that_its_prior_study_is_of(tmp_path: Path) -> None:
    write_parts(tmp_path)
    found = sampled(prepared(project(tmp_path, ["{prior}", "{file}"])))
    number = found["image"].map(lambda path: int(Path(path).stem))
    assert found.groupby(number // 4)["split"].nunique().max() == 1
    assert found["group"].nunique() == N / 4


def test_a_row_without_one_of_its_images_is_set_aside_and_says_which(tmp_path: Path) -> None:
    write_parts(tmp_path)
    rows = (tmp_path / "parts.csv").read_text().splitlines()
    rows[1], rows[2] = rows[1].replace("golden", "silver"), rows[2].replace("golden.png", "")
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    made = prepared(project(tmp_path, GOLDEN_AND_PART))
    aside: Any = pd.read_parquet(made.output("filtered_qa", ".quarantine.parquet"))
    assert aside["reason"].tolist() == ["image_missing"] * 2
    assert aside["detail"].iloc[0].startswith("image 1 of 2: there is no file")
    assert aside["detail"].iloc[1] == "line 3 has no reference"


def test_the_same_question_beside_another_prior_study_is_another(tmp_path: Path) -> None:
    write_parts(tmp_path)
    rows = (tmp_path / "parts.csv").read_text().splitlines()
    answer = "No" if rows[5].endswith("Yes") else "Yes"
    again = f"golden.png,40.png,{rows[5].split(',')[2]},{answer}"
    (tmp_path / "parts.csv").write_text("\n".join([*rows, again]))
    made = prepared(project(tmp_path, ["{prior}", "{file}"]))
    assert not len(pd.read_parquet(made.output("filtered_qa", ".quarantine.parquet")))


def test_reviewers_see_all_images_each_with_its_label(tmp_path: Path) -> None:
    write_parts(tmp_path)
    prepared(project(tmp_path, GOLDEN_AND_PART))
    with FeedbackDatabase() as db, db.reading() as connection:
        ours = select(items).where(items.c.pictures.contains(str(tmp_path), autoescape=True))
        row = connection.execute(ours).mappings().first()
    assert row is not None
    urls = image_urls(review_item(row))
    assert [one["label"] for one in urls] == ["A part without fault:", "This part:"]
    assert "at=0" in (urls[0]["url"] or "") and "at=" not in (urls[1]["url"] or "")


def test_a_chat_file_keeps_its_images_and_the_texts_that_lead_to_them(tmp_path: Path) -> None:
    write_parts(tmp_path)
    chats = []
    for number in range(N):
        parts: list[Any] = ["A part without fault:", "golden.png", "This part:", f"{number}.png", "Is it broken?"]
        content = [
            {"type": "image_url", "image_url": {"url": part}} if ".png" in part else {"type": "text", "text": part}
            for part in parts
        ]
        answer = "Yes" if number // 2 % 2 else "No"
        chats.append({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]})
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    source = {"kind": "chat_jsonl", "path": str(tmp_path / "chats.jsonl"), "region": "mono"}
    made = prepared(Project(make_task(source=source, filtering={}), tmp_path / "outputs"))
    assert sampled(made)["group"].nunique() == N
    asked = shown_in(lines(made)[0]["messages"][-2]["content"])
    assert asked[:4] == [
        "Is it broken? Answer Yes or No.",
        "A part without fault:",
        digest(tmp_path / "golden.png"),
        "This part:",
    ]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"images": ["golden.png"]}, "must be no reference and name a column"),
        ({"images": ["{a}", "{b}"], "image": "{a}"}, "image and images exclude each other"),
        ({"images": [{"image": "{a}", "lable": "x"}]}, "lable"),
        ({"images": []}, "at least 1 item"),
    ],
)
def test_images_that_make_no_sense_are_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Task.model_validate(
            make_task().model_dump() | {"source": {"kind": "table", "path": "a.csv", "question": "Is it?"} | said}
        )
