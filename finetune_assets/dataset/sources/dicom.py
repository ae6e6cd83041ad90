"""DICOM files, with a table of labels beside them.

A row is an image: the tags of its file by their keywords (`PatientID`, `StudyInstanceUID`, `BodyPartExamined`, …),
`file`, `frame` (from 1) and the columns of the table's row that has the same value under `join`. Pixels become a TIFF
of the values that they stand for (Hounsfield units of a CT), which keeps all of them; the file's own window goes along
as its tags, as does that low values are white. A file that says that a name is burnt into its
picture is set aside.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.pixels import stored
from finetune_assets.dataset.reading import opening, rows
from finetune_assets.dataset.reading.cells import Cells, text
from finetune_assets.dataset.sources import columns
from finetune_assets.dataset.sources.filling import region_of
from finetune_assets.dataset.sources.image_folder import below
from finetune_assets.dataset.sources.places import locate
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.errors import SourceError
from finetune_assets.task.annotations import DicomSource
from finetune_assets.task.answers import Answer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# What pydicom was seen to raise on damaged bytes, beyond its own error.
_PYDICOM_ERRORS = (EOFError, ValueError, LookupError, NotImplementedError, AttributeError, TypeError, struct.error)
_MAX_BYTES = 512 * 1024 * 1024
_MAX_FRAMES = 2_000
_MAX_TEXT = 200


def read(source: DicomSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the images of one region.

    Raises:
        SourceError: there is no DICOM file, pydicom is not installed, or the table of labels cannot be joined.
    """
    return columns.read_tables(source, _tables(source, region), region, answer)


def regions(source: DicomSource) -> Iterator[str]:
    """Stream the region of each image."""
    return columns.row_regions(source, _tables(source, None))


def _tables(source: DicomSource, region: str | None) -> Iterator[Table]:
    """One table of all files; `region` is the one whose pixels are wanted, "" where all are, None where none are."""
    folder = locate(source.path, source.folder)
    labels = _Labels(source)
    root = folder if folder.is_dir() else folder.parent
    yield Table(root / "files", "file", partial(_rows, source, root, _files(folder), labels, region))


def _rows(
    source: DicomSource, folder: UPath, files: list[UPath], labels: _Labels, region: str | None
) -> Iterator[tuple[int, Cells | str]]:
    yield from ((0, broken) for broken in labels.broken)
    for number, file in enumerate(files, 1):
        tags = _opened(file, with_pixels=False)
        if isinstance(tags, str):
            yield number, tags
            continue
        row = {**_tags(tags), "file": "/".join(below(folder, file))}
        row |= labels.of(row)
        if region is None:
            yield number, row
        elif not region or region_of(source, row) in ("", region):
            found = _opened(file, with_pixels=True)
            yield from (
                (number, shown) for shown in ([found] if isinstance(found, str) else _images(source, found, row))
            )


def _files(folder: UPath) -> list[UPath]:
    """The DICOM files below a folder, or the one that is named; files without an ending are looked into."""
    if folder.is_file():
        return [folder]
    found = [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]
    files = sorted((file for file in found if file.suffix.lower() in (".dcm", ".dicom") or begins_so(file)), key=str)
    if not files:
        raise SourceError(f"{folder}: holds no DICOM file")
    return files


def begins_so(file: UPath) -> bool:
    """Whether a file without an ending, or with a number for one, begins as DICOM files do."""
    if file.suffix and not file.suffix[1:].isdecimal():
        return False
    with opening(file), file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _opened(file: UPath, *, with_pixels: bool) -> Dataset | str:
    """A file's data set, or what is wrong with it."""
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        raise SourceError("pydicom is not installed; run: pip install 'finetune_assets[dicom]'") from error
    with opening(file):
        if file.stat().st_size > _MAX_BYTES:
            return f"{file.name} has over {_MAX_BYTES // 2**20} MiB"
        with file.open("rb") as opened:
            try:
                return dcmread(io.BytesIO(opened.read()), stop_before_pixels=not with_pixels)
            except (InvalidDicomError, *_PYDICOM_ERRORS) as error:
                return f"{file.name} is no DICOM file that can be read: {error}"


def _tags(found: Dataset) -> Cells:
    """The tags that are texts or numbers, by their keywords; those with several values as lists."""
    from pydicom.multival import MultiValue

    row: Cells = {}
    for element in found:
        if not element.keyword or element.VR in ("SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"):
            continue
        value = element.value
        row[element.keyword] = (
            [str(part) for part in value] if isinstance(value, MultiValue) else str(value)[:_MAX_TEXT]
        )
    return row


def _images(source: DicomSource, found: Dataset, row: Cells) -> Iterator[Cells | str]:
    """The row of the file's image, or of each of its frames."""
    if str(found.get("BurnedInAnnotation", "")).upper() == "YES" and not source.burned_in:
        told = "says that a name is burnt into its picture (BurnedInAnnotation)"
        yield f"{row['file']} {told}; paint it over, or say `burned_in: true` under source"
        return
    n = int(found.get("NumberOfFrames", 1) or 1)
    if n > 1 and source.frames is None:
        yield f"{row['file']} has {n} frames; say by `frames` under source which are meant: first, middle or all"
        return
    if n > _MAX_FRAMES:
        yield f"{row['file']} has {n} frames, over {_MAX_FRAMES}"
        return
    chosen = {"first": [0], "middle": [n // 2], "all": list(range(n))}[source.frames or "first"]
    for at in chosen:
        picture = _picture(found, at, n)
        yield picture if isinstance(picture, str) else {**row, "frame": at + 1, "image": {"bytes": picture}}


def _picture(found: Dataset, at: int, n: int) -> bytes | str:
    """One frame as a TIFF of the values that it stands for, or what is wrong with it."""
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    try:
        values = pixel_array(found, index=at if n > 1 else None)
        if values.ndim == 2:
            values = _without_padding(apply_modality_lut(values, found), values, found)
    except (RuntimeError, AttributeError, ValueError, KeyError, NotImplementedError, MemoryError) as error:
        return f"its pixels cannot be read: {error}"
    return stored.colours(values) if values.ndim == 3 else _greys(values, found)


def _greys(values: np.ndarray, found: Dataset) -> bytes:
    return stored.greys(values, _window(found), white_is_low=found.get("PhotometricInterpretation") == "MONOCHROME1")


def _without_padding(values: np.ndarray, raw: np.ndarray, found: Dataset) -> np.ndarray:
    """Fill what lies outside of what was measured with black, so that its value takes no part in the range."""
    ends = [_first(found.get(tag)) for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    low, high = ends[0], ends[0] if ends[1] is None else ends[1]
    if low is None or high is None:
        return values
    padded = (raw >= min(low, high)) & (raw <= max(low, high))
    if not padded.any() or padded.all():
        return values
    measured = values[~padded]
    black = measured.max() if found.get("PhotometricInterpretation") == "MONOCHROME1" else measured.min()
    return np.where(padded, black, values)


def _window(found: Dataset) -> tuple[float, float] | None:
    """The first window that the file states, as the smallest and the largest value that are told apart."""
    centre, width = (_first(found.get(tag)) for tag in ("WindowCenter", "WindowWidth"))
    return None if centre is None or width is None or width < 1 else (centre - width / 2, centre + width / 2)


def _first(value: Any) -> float | None:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    try:
        return float(next(iter(value), None) if several else value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return None


class _Labels:
    """The rows of the table of labels by their value under `join`.

    Raises:
        SourceError: it lacks that column, or two of its rows have the same value there.
    """

    def __init__(self, source: DicomSource) -> None:
        self._join = source.join
        self._rows: dict[str, Cells] = {}
        self.broken: list[str] = []
        if source.labels is None:
            return
        table = locate(source.labels, source.folder)
        for number, row in rows(table, [source.join], (), source.dialect):
            if isinstance(row, str):
                self.broken.append(f"{table.name}: {row}")
            elif not (value := text(row.get(source.join))):
                self.broken.append(f"{table.name}: line {number} has no {source.join}")
            elif value in self._rows:
                raise SourceError(f"{table}: line {number} repeats {source.join} {value!r}; each image needs one label")
            else:
                self._rows[value] = row

    def of(self, row: Cells) -> Cells:
        """Return what the table says of an image; nothing where it says nothing."""
        return self._rows.get(text(row.get(self._join)), {})
