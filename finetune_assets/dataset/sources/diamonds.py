"""Prices of 53,940 diamonds by their attributes, the table `diamonds` of the package plotnine (first of ggplot2).

The regions are the cuts: fair, good, very-good, premium, ideal. Prices are in thousands of US dollars, of about the
year 2008: so written, the first digits say how large a price is, and none is asked for that nothing foretells.
A stone that is listed twice, measured anew, is one group: it has the same weight, grades and price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finetune_assets.dataset.answer_reading import render
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import table
from finetune_assets.dataset.sources.packages import data_folder
from finetune_assets.task.answers import Answer, NumberAnswer
from finetune_assets.task.sources import DiamondsSource, TableSource


def read(source: DiamondsSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the diamonds of one cut.

    Raises:
        SourceError: the package is not installed.
    """
    for stone in table.read(_table(source), region, answer):
        if stone.score is None or not isinstance(answer, NumberAnswer):
            yield stone
        else:
            yield replace(stone, score=stone.score / 1000, answer=render(stone.score / 1000, answer))


def regions(source: DiamondsSource) -> Iterator[str]:
    """Stream the cut of each diamond."""
    return table.regions(_table(source))


def _table(source: DiamondsSource) -> TableSource:
    # The cut is the region's, the other two measures follow from these, and each digit is a token to train on. The
    # weight says most: it is last. The width hardly adds to it, but tells stones apart that are graded alike.
    described = "colour {color}, clarity {clarity}, {x} mm wide, {carat} carat"
    return TableSource(
        kind="table",
        path=str(data_folder("plotnine", "plotnine") / "diamonds.csv"),
        question=f"{source.question}\n{described}",
        answer="{price}",
        region="{cut}",
        group="{carat} {cut} {color} {clarity} {price}",
    )
