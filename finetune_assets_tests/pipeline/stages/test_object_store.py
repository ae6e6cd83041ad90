"""Sources and outputs in an object store, over real HTTP: what a second machine finds of all of it."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest
from upath import UPath

from finetune_assets.errors import TaskError
from finetune_assets.pipeline.shown.leaderboard import Kept, write_leaderboard
from finetune_assets.results.files import write_atomically
from finetune_assets_tests.dataset.belonging.test_look_alikes import cell, encoded
from finetune_assets_tests.long_tests import LONG
from finetune_assets_tests.object_store import object_store, upload
from finetune_assets_tests.pipeline.shown.test_leaderboard import TASK, evaluate
from finetune_assets_tests.pipeline.stages import test_sources as local
from finetune_assets_tests.pipeline.tasks import Project, evaluations, failures

pytestmark = pytest.mark.xdist_group("object_store")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, object_store(patch) as url:
        yield url


def answer_of(number: int) -> str:
    return "Yes" if local.is_bad(number) else "No"


def scored_images(folder: Path) -> None:
    rows = [f"{name},{int(local.is_bad(number))}" for number, name in enumerate(local.cells(folder))]
    (folder / "t.csv").write_text("\n".join(["image_url,score", *rows]))


def chat_jsonl(folder: Path) -> None:
    lines = [local.conversation(f"Is part {number} broken?", answer_of(number)) for number in range(local.N)]
    (folder / "t.jsonl").write_text("\n".join(lines))


def image_qa(folder: Path) -> None:
    entries = [
        {"filename": name, "question_answer": [{"question": "Is it broken?", "answer": answer_of(number)}]}
        for number, name in enumerate(local.cells(folder / "image_1"))
    ]
    (folder / "qa_1.json").write_text(json.dumps(entries))


def parquet(folder: Path) -> None:
    pictures = [{"bytes": encoded(cell(number, 64)), "path": None} for number in range(local.N)]
    rows = {"image": pictures, "answer": [answer_of(number) for number in range(local.N)]}
    pd.DataFrame(rows).to_parquet(folder / "t.parquet")


def excel(folder: Path) -> None:
    rows = {"file": local.cells(folder), "answer": [answer_of(number) for number in range(local.N)]}
    pd.DataFrame(rows).to_excel(folder / "t.xlsx", index=False)


TABLE = "image: '{file}', question: 'Is it broken?'"
SOURCES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    name: (write, f"kind: {name}, {keys}", answer) for name, (write, keys, answer) in local.SOURCES.items()
} | {
    "scored_images": (scored_images, "kind: scored_images, path: t.csv", local.YES_NO),
    "chat_jsonl": (chat_jsonl, "kind: chat_jsonl, path: t.jsonl", local.YES_NO),
    "image_qa": (image_qa, "kind: image_qa, path: qa_*.json, images: image_*", local.YES_NO),
    "parquet": (parquet, "kind: table, path: t.parquet, image: '{image}', question: 'Is it broken?'", local.YES_NO),
    "excel": (excel, f"kind: table, path: t.xlsx, {TABLE}", local.YES_NO),
}


SAMPLING = "{train: 0.5, validation: 0.15, calibration: 0.15, test: 0.2, seed: 48}"
ALWAYS = ("chat_jsonl", "parquet")
"""The others only in long tests: they are read as these are."""


def in_store(folder: Path, keys: str, url: str, answer: str = local.YES_NO) -> Project:
    return Project(local.task_in(folder, f"region: all, {keys}", answer, sampling=SAMPLING), UPath(url))


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind in ALWAYS or (LONG and kind != "sql")])
def test_a_source_in_the_store_goes_to_a_valid_training_file_there(kind: str, bucket: str, tmp_path: Path) -> None:
    write, keys, answer = SOURCES[kind]
    (tmp_path / "here").mkdir()
    write(tmp_path / "here")
    upload(tmp_path / "here", f"{bucket}/{kind}")
    shutil.rmtree(tmp_path / "here")
    keys = keys.replace("path: ", f"path: {bucket}/{kind}/").replace("labels: ", f"labels: {bucket}/{kind}/")
    project = in_store(tmp_path, keys, f"{bucket}/out/{kind}", answer)
    result = project.run(*local.DATA_STAGES, region="all")
    assert result.success, failures(result)
    rows = pd.read_parquet(str(project.output("filtered_qa", ".parquet", "all")))
    assert len(rows) == local.N and project.metadata("filtered_qa")["quarantined"] == 0
    assert project.metadata("validation_report")["errors"] == 0
    assert evaluations(result)["no_leakage"].passed
    assert all(address.startswith(f"{bucket}/") for address in rows["image"].dropna())
    page = httpx.get(project.metadata("validation_report")["page"])
    assert b"<html" in page.content and page.headers["content-type"] == "text/html"


def test_images_of_this_machine_are_kept_where_another_finds_them(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    scored_images(tmp_path / "here")
    project = in_store(tmp_path, f"kind: scored_images, path: {tmp_path}/here/t.csv", f"{bucket}/out/moved")
    first = project.run(*local.DATA_STAGES[:3], region="all")
    assert first.success, failures(first)
    shutil.rmtree(tmp_path / "here")
    second = project.run(*local.DATA_STAGES[3:], region="all")
    assert second.success, failures(second)


def test_a_page_in_the_store_leads_to_others_that_a_browser_opens(bucket: str) -> None:
    root = UPath(f"{bucket}/board")
    evaluate(root, "mono")
    write_atomically(root / TASK.task / "benchmark" / "mono.html", b"<html>mono")
    shown = write_leaderboard(Kept().read([TASK], root), str(root))
    links = re.findall(r'href="(http[^"]+)"', httpx.get(shown["page"].value).text)
    assert [httpx.get(html.unescape(link)).content for link in links] == [b"<html>mono"]


def test_a_file_of_sqlite_in_the_store_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="a file of this machine, which is all that SQLite reads"):
        local.task_in(tmp_path, "kind: sql, region: all, path: s3://b/labels.db, query: 'SELECT 1', question: '{text}'")
