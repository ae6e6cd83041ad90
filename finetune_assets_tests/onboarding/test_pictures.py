"""Where the images of a table are looked for, and what becomes of a table whose images are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_assets.errors import TaskError
from finetune_assets_tests.dataset.pictures import put
from finetune_assets_tests.onboarding.beginning import begun, photos, table


def test_images_in_a_folder_below_the_table_are_found(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(60)]
    photos(tmp_path / "images", *names)
    rows = [{"file": name, "label": ("ok", "nok")[n % 2]} for n, name in enumerate(names)]
    task, shown = begun(table(tmp_path / "labels.csv", rows))
    assert task.source.model_dump()["image"] == "images/{file}"
    assert "60 examples." in shown


def test_images_that_a_table_names_without_their_ending_are_found(tmp_path: Path) -> None:
    names = [f"{number:06x}" for number in range(60)]
    photos(tmp_path / "train_images", *(f"{name}.png" for name in names))
    rows = [{"id_code": name, "diagnosis": n % 5} for n, name in enumerate(names)]
    task, _ = begun(table(tmp_path / "train.csv", rows))
    assert task.source.model_dump()["image"] == "train_images/{id_code}.png"


def test_images_in_several_folders_are_refused_with_these(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(60)]
    photos(tmp_path / "images_1", *names[:30])
    photos(tmp_path / "images_2", *names[30:])
    rows = [{"file": name, "label": ("ok", "nok")[n % 2]} for n, name in enumerate(names)]
    with pytest.raises(TaskError, match=r"lie in 2 places \(images_1/\*, images_2/\*\); put them into one folder"):
        begun(table(tmp_path / "labels.csv", rows))


def test_a_table_of_images_that_are_not_there_is_no_task_of_texts(tmp_path: Path) -> None:
    rows = [{"image": f"scan_{n}", "question": f"Is it {n}?", "answer": ("yes", "no")[n % 2]} for n in range(60)]
    path = table(tmp_path / "qa.csv", rows)
    with pytest.raises(TaskError, match=r"column image seems to name images, and .* holds none of such a name"):
        begun(path)
    task, _ = begun(path, "image=none")
    assert task.source.model_dump()["image"] is None


def test_images_of_a_kind_that_is_not_read_are_told_and_no_texts(tmp_path: Path) -> None:
    rows = [{"file": f"{n}.svg", "label": ("ok", "nok")[n % 2]} for n in range(60)]
    for row in rows:
        put(tmp_path / row["file"], b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    with pytest.raises(TaskError, match="60 image_unreadable: it is a drawing"):
        begun(table(tmp_path / "labels.csv", rows))


def test_images_below_a_folder_of_another_name_are_refused_with_the_name_that_they_need(tmp_path: Path) -> None:
    names = [f"CheXpert-v1.0-small/train/patient{n:05}/view1.jpg" for n in range(60)]
    photos(tmp_path, *(name.replace("CheXpert-v1.0-small", "chexpert") for name in names))
    rows = [{"Path": name, "Edema": n % 2} for n, name in enumerate(names)]
    with pytest.raises(TaskError, match=r"lie in 'chexpert'; call the folder 'chexpert' 'CheXpert-v1.0-small'"):
        begun(table(tmp_path / "train.csv", rows))


def label_studio(folder: Path, n: int = 60) -> Path:
    tasks = [
        {
            "data": {"image": f"/data/upload/1/{number:08x}-scan.png"},
            "annotations": [
                {
                    "completed_by": 1,
                    "was_cancelled": False,
                    "result": [
                        {"from_name": "c", "to_name": "image", "type": "choices", "value": {"choices": [word]}}
                        for word in [("crack", "fine")[number % 2]]
                    ],
                }
            ],
        }
        for number in range(n)
    ]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def test_the_uploads_of_label_studio_are_found_where_they_were_copied_to(tmp_path: Path) -> None:
    photos(tmp_path / "media" / "upload", *(f"{number:08x}-scan.png" for number in range(60)))
    task, shown = begun(label_studio(tmp_path))
    assert task.source.model_dump()["images"] == "media/upload"
    assert "60 examples." in shown
    assert "What does this image show?" in shown


def test_the_uploads_of_label_studio_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"none of them lies below .*; copy them there: .* media/upload of Label Studio"
    ):
        begun(label_studio(tmp_path))
