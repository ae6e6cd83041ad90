"""What the columns of a table look like, by the rows that were looked at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from finetune_assets.dataset.answer_reading import WAYS_OF_WRITING, parse_number

MAX_DISTINCT = 1_000
"""Different values of a column that are remembered; more are all the same to every question asked here."""
_IMAGE = re.compile(
    r"(?i)^(data:image/|.*\.(png|jpe?g|webp|bmp|gif|tiff?|dcm|mpo|jpe|jfif|hei[cf]|avif|jp2|j2k|jxl|psd|svg|tga|p[gnp]m"
    r"|nii|nii\.gz|mha|nrrd|svs|dng|mp4|avi|mov)$)"
)
"""Not all of these are read; an image that is not read is refused by name, and no text."""
_SPLITS = {
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "dev",
    "test",
    "testing",
    "calibration",
    "eval",
    "holdout",
}


@dataclass(slots=True)
class Column:
    """One column of a table, by the rows that were looked at."""

    name: str
    n: int = 0
    """Rows that have something in it."""
    n_images: int = 0
    """Of these, those that look like the address of an image."""
    n_numbers: int = 0
    """Those that are numbers."""
    n_words: int = 0
    """Words in all of them."""
    values: Counter[str] = field(default_factory=Counter)
    """How often each value occurs, of the first `MAX_DISTINCT` different ones."""
    has_more: bool = False
    """Whether there are more different values than are remembered."""
    sizes: Counter[int] = field(default_factory=Counter)
    """How often lists of each length occur."""
    n_objects: int = 0
    """Lists of objects."""
    n_written_lists: int = 0
    """Texts that are lists as programs write them."""
    entries: set[str] = field(default_factory=set[str])
    """What stands in the lists, of the first `MAX_DISTINCT` different entries."""

    def see(self, value: object) -> None:
        """Take a cell into account; an empty one is none."""
        text = _text(value)
        if not text:
            return
        self.n += 1
        if isinstance(value, list):
            self._see_entries(cast("list[object]", value))
        elif text[0] == "[" and text[-1] == "]":
            self.n_written_lists += 1
        self.n_images += _is_image(value, text)
        self.n_numbers += any(parse_number(text, written) is not None for written in WAYS_OF_WRITING)
        self.n_words += text.count(" ") + 1
        if text in self.values or len(self.values) < MAX_DISTINCT:
            self.values[text[:200]] += 1
        else:
            self.has_more = True

    def _see_entries(self, entries: list[object]) -> None:
        self.sizes[len(entries)] += 1
        self.n_objects += any(isinstance(entry, Mapping) for entry in entries)
        if len(self.entries) < MAX_DISTINCT:
            self.entries |= set(map(_text, entries))

    @property
    def n_distinct(self) -> int:
        """Different values, at most `MAX_DISTINCT`."""
        return len(self.values)

    @property
    def is_images(self) -> bool:
        """Whether most of it are addresses of images, or images."""
        return self.n > 0 and self.n_images >= 0.8 * self.n

    @property
    def is_numbers(self) -> bool:
        """Whether nearly all of it are numbers."""
        return self.n > 0 and self.n_numbers >= 0.98 * self.n

    @property
    def is_lists(self) -> bool:
        """Whether all of it are lists of several entries."""
        return self.n > 0 and self.sizes.total() == self.n and min(self.sizes) > 1

    @property
    def is_written_lists(self) -> bool:
        """Whether all of it are texts that are lists as programs write them."""
        return 0 < self.n == self.n_written_lists

    @property
    def is_constant(self) -> bool:
        """Whether it says the same in every row."""
        return self.n_distinct == 1 < self.n

    @property
    def is_objects(self) -> bool:
        """Whether all of it are lists of objects."""
        return 0 < self.n == self.n_objects

    @property
    def is_split(self) -> bool:
        """Whether it says which split a row was published in."""
        return self.n > 0 and {value.lower() for value in self.values} <= _SPLITS

    @property
    def is_key(self) -> bool:
        """Whether it only names the row: another text or whole number in each."""
        if self.has_more or self.n_distinct < min(self.n, MAX_DISTINCT):
            return self.has_more and not self.is_numbers and self.n_words <= 1.5 * self.n
        return not self.is_numbers or all(value.isdigit() for value in self.values)

    @property
    def is_repeating(self) -> bool:
        """Whether each of its values stands in several rows on average."""
        return not self.has_more and 1 < self.n_distinct <= self.n / 2


def profile(rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    """Look at rows, and give their columns in the order in which they are met; objects count as their parts, `a.b`."""
    found: dict[str, Column] = {}
    for row in rows:
        for name, value in _flat(row):
            found.setdefault(name, Column(name)).see(value)
    return [column for column in found.values() if column.n]


def _flat(row: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping) and not _holds_an_image(value):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _holds_an_image(value: Mapping[str, Any]) -> bool:
    return "bytes" in value and "path" in value


def _is_image(value: object, text: str) -> bool:
    return (isinstance(value, Mapping) and _holds_an_image(value)) or bool(_IMAGE.match(text))


def _text(value: object) -> str:
    if value is None or value != value:  # not a number
        return ""
    return ("an image" if isinstance(value, Mapping) else str(value)).strip()
