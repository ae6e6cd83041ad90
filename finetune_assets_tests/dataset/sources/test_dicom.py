"""DICOM files as a scanner writes them: tags as columns, real values as pixels, a table of labels beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_assets.dataset import images
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import dicom
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import DicomSource
from finetune_assets.task.answers import BinaryAnswer

pydicom = pytest.importorskip("pydicom")


def write(path: Path, values: np.ndarray, **tags: Any) -> Path:
    """Write an uncompressed file; `values` are stored values, `[h, w]` or `[frames, h, w]`."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = CTImageStorage
    found.SOPInstanceUID = tags.pop("SOPInstanceUID", generate_uid())
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    found.PatientID, found.BodyPartExamined, found.Modality = "P1", "CHEST", "CT"
    found.Rows, found.Columns = values.shape[-2:]
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, 16, 15
    found.PixelRepresentation = int(values.dtype.kind == "i")
    if values.ndim == 3:
        found.NumberOfFrames = len(values)
    for tag, value in tags.items():
        setattr(found, tag, value)
    found.PixelData = values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)
    return path


def ramp(low: int, high: int, kind: str = "<i2") -> np.ndarray:
    """An image of 64 x 64 whose values rise from `low` to `high`."""
    return np.linspace(low, high, 64 * 64).round().astype(kind).reshape(64, 64)


def read(folder: Path, of: str = "chest", **settings: Any) -> list[Example]:
    fields = {"kind": "dicom", "path": str(folder), "region": "{BodyPartExamined}", "answer": "{finding}"}
    return list(dicom.read(DicomSource.model_validate(fields | settings), of, BinaryAnswer(kind="binary")))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A CT slice with its label, in Hounsfield units stored with an intercept."""
    write(
        tmp_path / "scans" / "one.dcm",
        ramp(0, 2024, "<u2"),
        SOPInstanceUID="1.2.3",
        RescaleIntercept=-1024,
        RescaleSlope=1,
    )
    (tmp_path / "findings.csv").write_text("SOPInstanceUID,finding\n1.2.3,yes\n")
    return tmp_path


def test_a_file_joins_its_label_and_says_where_it_belongs(scan: Path) -> None:
    [found] = read(scan / "scans", labels=str(scan / "findings.csv"))
    assert (found.answer, found.region, found.group) == ("Yes", "chest", "p1")


def shown(example: Example) -> np.ndarray:
    """The grey values of an example's image as the pipeline shows it."""
    assert isinstance(example.image, bytes)
    return np.asarray(images.decode(example.image).convert("L"))


def test_hounsfield_units_keep_their_greys(scan: Path) -> None:
    [found] = read(scan / "scans", labels=str(scan / "findings.csv"))
    assert len(np.unique(shown(found))) >= 200


def test_the_files_own_window_is_used(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(-1000, 1000), WindowCenter=[40, 400], WindowWidth=[400, 1000], ImageComments="yes")
    [found] = read(tmp_path, answer="{ImageComments}")
    grey = shown(found)
    assert (grey[0, 0], grey[-1, -1]) == (0, 255)
    inside = ramp(-1000, 1000)
    assert set(np.unique(grey[inside < -160])) == {0}
    assert len(np.unique(grey[(inside > -160) & (inside < 240)])) >= 200


def test_monochrome1_is_turned(tmp_path: Path) -> None:
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        write(tmp_path / f"{kind}.dcm", ramp(0, 4095, "<u2"), PhotometricInterpretation=kind, ImageComments="yes")
    turned, plain = (shown(example) for example in read(tmp_path, answer="{ImageComments}"))
    assert turned[0, 0] > turned[-1, -1]
    assert plain[0, 0] < plain[-1, -1]


def test_of_several_frames_the_task_says_which_are_meant(tmp_path: Path) -> None:
    frames = np.stack([ramp(0, 1000, "<u2") + 10 * n for n in range(3)]).astype("<u2")
    write(tmp_path / "cine.dcm", frames, ImageComments="yes")
    [aside] = read(tmp_path, answer="{ImageComments}")
    assert aside.detail == "cine.dcm has 3 frames; say by `frames` under source which are meant: first, middle or all"
    assert len(read(tmp_path, answer="{ImageComments}", frames="all")) == 3
    assert len(read(tmp_path, answer="{ImageComments}", frames="middle")) == 1


def test_a_name_that_is_burnt_into_the_picture_stays_at_home(tmp_path: Path) -> None:
    write(tmp_path / "us.dcm", ramp(0, 1000, "<u2"), BurnedInAnnotation="YES", ImageComments="yes")
    [aside] = read(tmp_path, answer="{ImageComments}")
    assert aside.detail.startswith("us.dcm says that a name is burnt into its picture (BurnedInAnnotation)")
    [taken] = read(tmp_path, answer="{ImageComments}", burned_in=True)
    assert taken.problem is None


def test_a_file_that_is_damaged_hides_no_other(scan: Path) -> None:
    (scan / "scans" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    broken, kept = read(scan / "scans", labels=str(scan / "findings.csv"))
    assert (broken.problem, kept.answer) == ("malformed_line", "Yes")


def test_a_label_that_stands_twice_is_refused(scan: Path) -> None:
    (scan / "findings.csv").write_text("SOPInstanceUID,finding\n1.2.3,yes\n1.2.3,no\n")
    with pytest.raises(SourceError, match=r"line 3 repeats SOPInstanceUID '1.2.3'; each image needs one label"):
        read(scan / "scans", labels=str(scan / "findings.csv"))


def test_an_image_without_a_label_is_set_aside(scan: Path) -> None:
    write(scan / "scans" / "two.dcm", ramp(0, 100, "<u2"))
    _, aside = read(scan / "scans", labels=str(scan / "findings.csv"))
    assert aside.problem == "empty_answer"


def test_a_window_of_monochrome1_is_in_the_values_that_are_stored(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(0, 4095, "<u2"), PhotometricInterpretation="MONOCHROME1", ImageComments="yes")
    [found] = read(tmp_path, answer="{ImageComments}")
    assert isinstance(found.image, bytes)
    facts = images.inspect(found.image, (500, 3500))
    assert facts.scale is not None and (facts.scale.low, facts.scale.high, facts.contrast) == (500, 3500, 255)
    assert images.value_range(found.image) == {"low": 0, "high": 4095}


def test_padding_takes_no_part_in_the_range(tmp_path: Path) -> None:
    values = ramp(-1000, 1000)
    values[:20] = -2000
    write(tmp_path / "a.dcm", values, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=0, ImageComments="yes")
    [found] = read(tmp_path, answer="{ImageComments}")
    grey = shown(found)
    assert grey[:20].max() == 0 and len(np.unique(grey)) > 200
