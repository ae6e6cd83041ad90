"""From files of every format to a validated training file, by one YAML; and what the checks say of their splits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from finetune_assets.task import Task
from finetune_assets.task.component_file import read_attributes
from finetune_assets_tests.dataset.belonging.test_look_alikes import cell, encoded
from finetune_assets_tests.dataset.pictures import put
from finetune_assets_tests.pipeline.tasks import Project, evaluations, failures, words

N = 48
DATA_STAGES = ("human_feedback", "sampled_examples", "filtered_qa", "training_jsonl", "validation_report")
YES_NO = "{kind: binary}"


def is_bad(number: int) -> bool:
    return number % 2 == 1


def cells(folder: Path, name: Callable[[int], str] = "{}.png".format) -> list[str]:
    return [put(folder / name(number), encoded(cell(number, 64))).name for number in range(N)]


def image_folder(folder: Path) -> None:
    cells(folder / "photos", lambda n: f"{'bad' if is_bad(n) else 'good'}/{n}.png")


def label_studio(folder: Path) -> None:
    tasks = []
    for number, name in enumerate(cells(folder / "upload" / "3")):
        choice = {"from_name": "broken", "type": "choices", "value": {"choices": ["Yes" if is_bad(number) else "No"]}}
        annotations = [
            {"completed_by": 1, "result": [choice]},
            {"completed_by": 2, "was_cancelled": True, "result": []},
        ]
        tasks.append({"id": number, "data": {"image": f"/data/upload/3/{name}"}, "annotations": annotations})
    (folder / "export.json").write_text(json.dumps(tasks))


def coco(folder: Path) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate(cells(folder / "images"))]
    boxes = [{"id": n, "image_id": n, "category_id": 7, "bbox": [1, 1, 2, 2]} for n in range(N) if is_bad(n)]
    found = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "crack"}]}
    (folder / "instances.json").write_text(json.dumps(found))


def voc(folder: Path) -> None:
    box = "<object><name>crack</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>"
    for number, name in enumerate(cells(folder / "voc" / "JPEGImages")):
        found = f"<annotation><filename>{name}</filename>{box * is_bad(number)}</annotation>"
        put(folder / "voc" / "Annotations" / f"{number}.xml", found.encode())


def yolo(folder: Path) -> None:
    put(folder / "yolo" / "data.yaml", b"names: [crack]\n")
    for number, _ in enumerate(cells(folder / "yolo" / "images")):
        put(folder / "yolo" / "labels" / f"{number}.txt", b"0 .5 .5 .1 .1\n" * is_bad(number))


def dicom(folder: Path) -> None:
    pytest.importorskip("pydicom")
    from finetune_assets_tests.dataset.sources.test_dicom import write

    lines = ["SOPInstanceUID,finding"]
    for number in range(N):
        values = np.asarray(cell(number, 64).convert("L"), "<i2") * 8 - 1000
        write(folder / "scans" / f"{number}.dcm", values, SOPInstanceUID=f"1.2.{number}", PatientID=f"P{number}")
        lines.append(f"1.2.{number},{'yes' if is_bad(number) else 'no'}")
    (folder / "findings.csv").write_text("\n".join(lines))


def sql(folder: Path) -> None:
    with sqlite3.connect(folder / "labels.db") as database:
        database.execute("CREATE TABLE findings (text TEXT, label TEXT)")
        rows = [(f"Is part {n} broken?", "yes" if is_bad(n) else "no") for n in range(N)]
        database.executemany("INSERT INTO findings VALUES (?, ?)", rows)


def huggingface(folder: Path) -> None:
    for split, numbers in {"train": range(30), "validation": range(30, 38), "test": range(38, N)}.items():
        rows = {"text": [f"Is part {n} broken?" for n in numbers], "label": [int(is_bad(n)) for n in numbers]}
        (folder / "hub" / "data").mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(folder / "hub" / "data" / f"{split}-00000-of-00001.parquet")


SOURCES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "image_folder": (image_folder, "path: photos, question: 'Which?'", "{kind: choice, options: [good, bad]}"),
    "label_studio": (label_studio, "path: export.json, question: 'Is it broken?'", YES_NO),
    "coco": (coco, "path: instances.json, images: images, category: crack", YES_NO),
    "voc": (voc, "path: voc, category: crack", YES_NO),
    "yolo": (yolo, "path: yolo, category: crack, question: 'How many?'", "{kind: number, decimals: 0, minimum: 0}"),
    "dicom": (
        dicom,
        "path: scans, labels: findings.csv, join: SOPInstanceUID, answer: '{finding}', group: '{PatientID}'",
        YES_NO,
    ),
    "sql": (sql, "path: labels.db, query: 'SELECT * FROM findings', question: '{text}', answer: '{label}'", YES_NO),
    "huggingface": (huggingface, "path: hub, question: '{text}', answer: '{label}'", YES_NO),
}


def task_in(folder: Path, source: str, answer: str = YES_NO, **more: str) -> Task:
    """Read a task's YAML, as Dagster does."""
    said = {"task": "cells", "regions": "[all]", "source": f"{{{source}}}", "answer": answer}
    said |= {
        "sampling": "{train: 0.4, validation: 0.2, calibration: 0.2, test: 0.2}",
        "base_model": "gpt-4o-2024-08-06",
    }
    lines = [f"  {key}: {value}" for key, value in (said | more).items()]
    path = folder / "defs.yaml"
    path.write_text("\n".join(["type: finetune_assets.pipeline.FineTuningTask", "attributes:", *lines, ""]))
    return read_attributes(path, Task, {"folder": folder})


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_goes_from_its_files_to_a_valid_training_file(kind: str, tmp_path: Path) -> None:
    write, keys, answer = SOURCES[kind]
    write(tmp_path)
    project = Project(task_in(tmp_path, f"kind: {kind}, region: all, {keys}", answer), tmp_path / "out")
    result = project.run(*DATA_STAGES, region="all")
    assert result.success, failures(result)
    rows = pd.read_parquet(project.output("filtered_qa", ".parquet", "all"))
    assert len(rows) == N and project.metadata("filtered_qa")["quarantined"] == 0
    assert rows["answer"].value_counts().tolist() == [N / 2, N / 2]
    assert project.metadata("validation_report")["errors"] == 0
    assert evaluations(result)["no_leakage"].passed


def conversation(question: str, answer: str, **more: object) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **more})


def sampled(folder: Path, source: str, *stages: str, **more: Any) -> tuple[Project, Any]:
    """Run the first stages of a task in the folder."""
    project = Project(task_in(folder, source, **more), folder / "out")
    return project, project.run(*(stages or ("sampled_examples",)), region="all")


def rows_of(project: Project, stage: str = "sampled_examples") -> pd.DataFrame:
    return pd.read_parquet(project.output(stage, ".parquet", "all"))


def test_a_published_split_is_used_and_what_lacks_is_cut_out_of_it(tmp_path: Path) -> None:
    huggingface(tmp_path)
    keys = "kind: huggingface, path: hub, question: '{text}', answer: '{label}', region: all"
    project, result = sampled(tmp_path, keys)
    assert result.success, failures(result)
    published = "used as published: 30 train, 8 validation, 10 test; calibration is cut out of validation"
    assert project.metadata("sampled_examples")["published_splits"] == published
    assert rows_of(project)["split"].tolist().count("test") == 10


def test_a_chat_file_s_own_split_is_used(tmp_path: Path) -> None:
    splits = ["train"] * 20 + ["dev"] * 6 + ["test"] * 6
    lines = [conversation(f"Is part {n} broken?", "Yes", metadata={"fold": split}) for n, split in enumerate(splits)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    project, result = sampled(tmp_path, "kind: chat_jsonl, path: t.jsonl, region: all, split_field: fold")
    assert result.success, failures(result)
    counted = rows_of(project)["split"].value_counts()
    assert (counted["train"], counted["test"]) == (20, 6)


def test_a_misspelt_group_field_ends_the_run_with_the_nearest_name(tmp_path: Path) -> None:
    lines = [conversation(f"Is part {n} broken?", "Yes", patient=n // 4) for n in range(16)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    _, result = sampled(tmp_path, "kind: chat_jsonl, path: t.jsonl, region: all, group_field: patinet")
    assert not result.success and "did you mean 'patient'?" in failures(result)


def test_negated_labels_are_set_aside_and_not_taught(tmp_path: Path) -> None:
    said = [
        "The cell is defective.",
        "The cell is not defective.",
        "It is intact.",
        "I see no sign of a defective cell.",
    ]
    lines = [conversation(f"What about cell {n}?", said[n % 4]) for n in range(48)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    answer = "{kind: binary, positive: defective, negative: intact}"
    stages = ("human_feedback", "sampled_examples", "filtered_qa")
    project, result = sampled(tmp_path, "kind: chat_jsonl, path: t.jsonl, region: all", *stages, answer=answer)
    assert result.success, failures(result)
    assert rows_of(project, "filtered_qa")["answer"].value_counts().to_dict() == {"defective": 12, "intact": 12}
    aside = pd.read_parquet(project.output("filtered_qa", ".quarantine.parquet", "all"))
    assert set(aside["reason"]) == {"unparseable_answer"} and len(aside) == 24
    assert not evaluations(result)["little_quarantine"].passed


def test_one_scene_ends_the_run_and_is_called_by_its_first_file(tmp_path: Path) -> None:
    scene = np.asarray(cell(0, 64).convert("L"), float)
    lines = ["image_url,score"]
    for number in range(20):
        frame = np.random.default_rng(number).normal(scene, 2).clip(0, 255).astype(np.uint8)
        put(tmp_path / f"frame-{number}.png", encoded(Image.fromarray(frame)))
        lines.append(f"frame-{number}.png,{number % 2}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    _, result = sampled(tmp_path, "kind: scored_images, path: t.csv, region: all")
    assert not result.success
    assert "has 20 of 20 (100%)" in words(result, "groups_divide")
    assert "the largest group, 'frame-" in words(result, "groups_divide")
    assert "If it is one scene or patient, add others" in words(result, "groups_divide")


def test_slices_of_one_name_in_sibling_folders_stay_together(tmp_path: Path) -> None:
    asked = [{"question": "Is there a lesion?", "answer": "yes"}]
    for part in ("1", "2"):
        for number in range(30):
            # The second series shows the slice turned: nothing but the name says that it is the same.
            turned = cell(number, 64).rotate(90 if part == "2" else 0)
            put(tmp_path / f"image_{part}" / f"slice_{number}.png", encoded(turned))
        entries = [{"filename": f"slice_{number}.png", "question_answer": asked} for number in range(30)]
        (tmp_path / f"qa_{part}.json").write_text(json.dumps(entries))
    in_splits = {}
    for names in ("together", "apart"):
        keys = f"kind: image_qa, path: qa_*.json, images: image_*, region: all, same_names: {names}"
        project = Project(task_in(tmp_path, keys), tmp_path / names)
        result = project.run("sampled_examples", region="all")
        assert result.success, failures(result)
        rows = rows_of(project)
        assert len(rows) == 60
        in_splits[names] = rows.groupby(rows["image"].str.extract(r"(slice_\d+)")[0])["split"].nunique().max()
    assert in_splits == {"together": 1, "apart": 2}


def test_another_seed_is_refused_for_what_has_trained_until_it_is_drawn_anew(tmp_path: Path) -> None:
    sql(tmp_path)
    keys = f"kind: sql, region: all, {SOURCES['sql'][1]}"
    _, first = sampled(tmp_path, keys)
    assert evaluations(first)["unseen_test"].passed
    sampling = "{train: 0.4, validation: 0.2, calibration: 0.2, test: 0.2, seed: 9}"
    other, refused = sampled(tmp_path, keys, sampling=sampling)
    assert not refused.success and "draw_anew in the launchpad" in words(refused, "unseen_test")
    anew = other.run("sampled_examples", region="all", config={"sampled_examples": {"draw_anew": True}})
    assert anew.success and evaluations(anew)["unseen_test"].passed


def test_images_that_nearly_look_like_a_training_image_are_counted(tmp_path: Path) -> None:
    lines = ["image_url,score,patient_id"]
    for number in range(40):
        scene = np.asarray(cell(number // 10, 64).convert("L"), float)
        frame = np.random.default_rng(number).normal(scene, 2).clip(0, 255).astype(np.uint8)
        put(tmp_path / f"{number}.png", encoded(Image.fromarray(frame)))
        lines.append(f"{number}.png,{number % 2},{number // 10}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    off = "{near_duplicates: false}"
    _, result = sampled(tmp_path, "kind: scored_images, path: t.csv, region: all", filtering=off)
    assert result.success, failures(result)
    assert not evaluations(result)["close_neighbours"].passed
    assert "name what they have in common as source.group" in words(result, "close_neighbours")
    assert 'write `group: "{patient_id}"` under source' in words(result, "clear_names")
