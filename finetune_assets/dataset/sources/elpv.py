"""Solar cells of the package `elpv-dataset`: 2,624 electroluminescence images with the experts' defect probability.

Source: Deitsch et al., Solar Energy 185 (2019); data CC BY-NC-SA 4.0. Labels are 0, 1/3, 2/3 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from upath import UPath

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sources.origin import Origin
from finetune_assets.dataset.sources.packages import data_folder
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import Answer
from finetune_assets.task.sources import ElpvSource


def read(source: ElpvSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the cells of one module type, `mono` or `poly`.

    Raises:
        SourceError: the package is not installed, or its table of labels cannot be read.
    """
    labels, lines = _labels()
    for number, line in enumerate(lines, 1):
        record = Origin(region, UPath(labels), number)
        try:
            path, probability, module_type = line.split()
            score = float(probability)
        except ValueError:
            detail = f"line {number} must be path, probability and module type, found {line[:60]!r}"
            yield record.problem(Reason.MALFORMED_LINE, detail)
            continue
        if origin := record.of(module_type):
            doubt = f"the experts' defect probability is {score:.2f}" if 0 < score < 1 else None
            image = str(labels.parent / path)
            made = origin.example(score > 0.5, answer, id=Path(path).stem, question=source.question, image=image)
            yield replace(made, score=score, doubt=doubt)


def regions(_: ElpvSource) -> Iterator[str]:
    """Stream the module type of each cell."""
    for line in _labels()[1]:
        yield line.split()[-1] if line.split() else ""


def _labels() -> tuple[Path, list[str]]:
    labels = data_folder("elpv_dataset", "elpv-dataset") / "labels.csv"
    try:
        return labels, labels.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{labels}: cannot be read ({error}); install elpv-dataset again") from error
