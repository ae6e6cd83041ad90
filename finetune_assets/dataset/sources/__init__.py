"""Where labelled examples come from: one module per kind of source, one way to read them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import elpv, image_qa, scored_images
from finetune_assets.task import BinaryAnswer, ElpvSource, ImageQaSource, ScoredImagesSource, Source


def read(source: Source, region: str, answer: BinaryAnswer) -> Iterator[Example]:
    """Stream one region's examples in the order of the source.

    A row that is no example is yielded with its `problem`; one that names no region is yielded for every region.
    Where a source repeats its own key, the later examples' ids end in `#2`, `#3` and so on.

    Raises:
        SourceError: the source cannot be opened, or is not of its format at all.
    """
    times_seen: Counter[str] = Counter()
    for example in _examples(source, region, answer):
        times_seen[example.id] += 1
        times = times_seen[example.id]
        yield example if times == 1 else replace(example, id=f"{example.id}#{times}")


def _examples(source: Source, region: str, answer: BinaryAnswer) -> Iterator[Example]:
    match source:
        case ElpvSource():
            return elpv.read(source, region, answer)
        case ScoredImagesSource():
            return scored_images.read(source, region, answer)
        case ImageQaSource():
            return image_qa.read(source, region, answer)
