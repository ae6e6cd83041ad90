"""Prices of 53,940 diamonds by their attributes, the table `diamonds` of the package plotnine (first of ggplot2).

The regions are the cuts: fair, good, very-good, premium, ideal. Prices are in US dollars, of about the year 2008.
A stone that is listed twice, measured anew, is one group: it has the same weight, grades and price.
"""

from __future__ import annotations

from collections.abc import Iterator

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import table
from finetune_assets.dataset.sources.packages import data_folder
from finetune_assets.task import Answer
from finetune_assets.task_sources import DiamondsSource, TableSource


def read(source: DiamondsSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the diamonds of one cut.

    Raises:
        SourceError: the package is not installed.
    """
    return table.read(_table(source), region, answer)


def regions(source: DiamondsSource) -> Iterator[str]:
    """Stream the cut of each diamond."""
    return table.regions(_table(source))


def _table(source: DiamondsSource) -> TableSource:
    # The other two measures follow from these, and each digit is a token to train on. The weight says most: it is last.
    described = "cut {cut}, colour {color}, clarity {clarity}, {x} mm wide, {carat} carat"
    return TableSource(
        kind="table",
        path=str(data_folder("plotnine", "plotnine") / "diamonds.csv"),
        question=f"{source.question}\n{described}",
        answer="{price}",
        region="{cut}",
        group="{carat} {cut} {color} {clarity} {price}",
    )
