"""The further images of examples that show several: what ties an example to others beside the image in question.

A prior study shown with one example may be in question in another, so both belong together. A part without fault that
stands beside everything that is judged ties nothing: it says nothing about an example. The task may say so of an
image; where it does not, one that stands in at least half of the examples with several, beside different ones, is
taken for such a reference too, and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune_assets.dataset import splits
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.image_looks import Look

SHARE = 0.5
"""Of the examples with several images in which a reference stands."""
PARTNERS = 3
"""Different images beside which it stands."""


@dataclass(frozen=True, slots=True)
class FurtherImages:
    """The images of examples that show several, that in question included, an array of [m] each."""

    owner: np.ndarray
    """Number of the row."""
    name: np.ndarray
    """Hash of the row's id and the image's place."""
    image: np.ndarray
    """Hash of the image."""
    thumbnail: np.ndarray
    """Number of its thumbnail."""
    said: np.ndarray
    """Whether the task says that it is a reference."""

    @classmethod
    def of(cls, rows: Sequence[Example], looks: Sequence[Sequence[Look]], first: int) -> FurtherImages:
        """Take the images of rows, the first of which has a number, from what was seen of them."""
        found = [
            (first + at, f"{row.id}\0{place}", int(look.facts.sha256[:16], 16), look.thumbnail, picture.is_reference)
            for at, (row, of_row) in enumerate(zip(rows, looks, strict=True))
            if of_row and all(look.facts for look in of_row)
            for place, (picture, look) in enumerate(zip(row.pictures, of_row, strict=False))
            if look.facts
        ]
        owner, names, image, thumbnail, said = zip(*found, strict=True) if found else ((),) * 5
        return cls(
            np.array(owner, np.int32),
            splits.keys(0, names),
            np.array(image, np.uint64),
            np.array(thumbnail, np.int32),
            np.array(said, bool),
        )

    @classmethod
    def joined(cls, parts: Sequence[FurtherImages]) -> FurtherImages:
        """Put parts one after the other."""
        parts = parts or [cls.of([], [], 0)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def references(self) -> np.ndarray:
        """Hashes of the images that are taken for references though the task does not say so."""
        own = ~self.said
        rows = len(np.unique(self.owner))
        images, counts = np.unique(self.image[own], return_counts=True)
        often = images[counts >= max(SHARE * rows, PARTNERS)]
        return np.array([image for image in often if self._n_beside(image) >= PARTNERS], np.uint64)

    def tying(self, references: np.ndarray) -> FurtherImages:
        """Return those that tie examples together."""
        ties = ~self.said & ~np.isin(self.image, references)
        return FurtherImages(*(getattr(self, name)[ties] for name in self.__slots__))

    def _n_beside(self, image: np.uint64) -> int:
        rows = np.unique(self.owner[self.image == image])
        return len(np.setdiff1d(self.image[np.isin(self.owner, rows)], [image]))
