"""Solar cells of the package `elpv-dataset`: 2,624 electroluminescence images with the experts' defect probability.

Source: Deitsch et al., Solar Energy 185 (2019); data CC BY-NC-SA 4.0. Labels are 0, 1/3, 2/3 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.errors import SourceError
from finetune_assets.task import BinaryAnswer, ElpvSource


def read(source: ElpvSource, region: str, answer: BinaryAnswer) -> Iterator[Example]:
    """Stream the cells of one module type, `mono` or `poly`.

    Raises:
        SourceError: the package is not installed, or its table of labels cannot be read.
    """
    folder = _data_folder()
    labels = folder / "labels.csv"
    try:
        lines = labels.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{labels}: cannot be read ({error}); install elpv-dataset again") from error
    for number, line in enumerate(lines, 1):
        try:
            path, probability, module_type = line.split()
            score = float(probability)
        except ValueError:
            detail = f"line {number} must be path, probability and module type, found {line[:60]!r}"
            yield Example(id=f"{labels.name}:{number}", region=region, source=str(labels), line=number,
                          problem=Reason.MALFORMED_LINE, detail=detail)  # fmt: skip
            continue
        if module_type == region:
            yield Example(
                id=Path(path).stem,
                region=region,
                source=str(labels),
                line=number,
                question=source.question,
                answer=answer.positive if score > 0.5 else answer.negative,
                score=score,
                image=str(folder / path),
                doubt=f"the experts' defect probability is {score:.2f}" if 0 < score < 1 else None,
            )


def _data_folder() -> Path:
    # The package itself is not imported: it would load numpy and Pillow to find a folder.
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise SourceError("the package elpv-dataset is not installed; run: pip install 'finetune_assets[data]'")
    return Path(spec.submodule_search_locations[0]) / "data"
