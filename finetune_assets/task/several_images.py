"""Several images of one example, as a source of tables names them: a reference part, or a prior study."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Len
from pydantic import BeforeValidator, Field, field_validator, model_validator

from finetune_assets.task.strict import Strict, Text

MAX_IMAGES = 16
"""Of one example."""


class ShownImage(Strict):
    """One of several images that are shown with each question."""

    image: Text
    """As `image` of a source; the path of a file without columns is shown with every question."""
    label: Text | None = Field(default=None, description="What is said before it in the prompt, such as `Before:`.")
    reference: bool = Field(
        default=False,
        description="It is only there for comparison: examples that show the same one may stand in several splits.",
    )

    @property
    def is_reference(self) -> bool:
        """Whether it says nothing about the example itself."""
        return self.reference or "{" not in self.image


def _with_its_keys(written: object) -> object:
    return {"image": written} if isinstance(written, str) else written


class SeveralImages(Strict):
    """A source whose rows may name several images each."""

    images: Annotated[list[Annotated[ShownImage, BeforeValidator(_with_its_keys)]], Len(1, MAX_IMAGES)] | None = Field(
        default=None,
        description="Several images of each row, in the order in which they are shown, instead of `image`: texts, or "
        'objects such as {image: "{prior}", label: "Before:"}. The last that is no reference is the one in question.',
    )

    @field_validator("images")
    @classmethod
    def _one_is_in_question(cls, images: list[ShownImage] | None) -> list[ShownImage] | None:
        if images is not None and all(image.is_reference for image in images):
            raise ValueError("one of the images must be no reference and name a column: the one that is in question")
        return images

    @model_validator(mode="after")
    def _one_or_several(self) -> SeveralImages:
        if self.images and getattr(self, "image", None):
            raise ValueError("image and images exclude each other: name the one in `image` among the `images`")
        return self


def images_of(source: object) -> list[ShownImage]:
    """List the images that each example of a source shows, where it says so under `images`."""
    return (source.images or []) if isinstance(source, SeveralImages) else []


def in_question(images: list[ShownImage]) -> int:
    """Return the place of the image that a question is about: the last that is no reference; 0 without any."""
    return max((at for at, image in enumerate(images) if not image.is_reference), default=0)
