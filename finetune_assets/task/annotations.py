"""What annotation tools and public data sets write: folders by class, Label Studio, COCO, VOC, YOLO, DICOM, SQL.

Each gives rows with columns of its own, which its module under `dataset/sources/` lists; the task says as for a table
what is made of them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from finetune_assets.task.several_images import SeveralImages
from finetune_assets.task.sources import Columns, FileSource, LocatedSource, OfColumns, OwnSplits, SeveralAnswers

_IS_THERE_ONE = "Is there a {category} in this image?"
IMAGE = Field(default="{image}", description="The image; the source's own column `image` usually is it.")


class ImageFolderSource(OwnSplits, FileSource, Columns):
    """Images in folders by class. Columns: `image`, `name`, `class`, `folders` (outermost first), `split`."""

    kind: Literal["image_folder"]
    image: OfColumns | None = IMAGE
    question: str = "What does this image show?"
    """What is asked about every image."""
    answer: OfColumns = "{class}"
    """The class, which `values` may call otherwise."""


class LabelStudioSource(OwnSplits, FileSource, Columns):
    """A JSON export of Label Studio. Columns: the keys of each task's data, `answer`, `annotator` and `task`.

    Completed annotations alone count; those of one task are votes.
    """

    kind: Literal["label_studio"]
    image: OfColumns | None = IMAGE
    question: str = "What does this image show?"
    """What is asked about every image; or a column of the data in braces."""
    annotator: OfColumns | None = "{annotator}"
    """Who annotated."""
    control: str | None = Field(
        default=None, description="Name of the control whose answers are meant, where several were answered."
    )
    images: str | None = Field(
        default=None, description="Folder of the uploaded files, relative to the export's; by default the export's own."
    )


class DrawnObjects(OwnSplits, FileSource, Columns):
    """A source of drawn objects: is there one of a category, how many are there, or which one category is it."""

    image: OfColumns | None = IMAGE
    question: str = _IS_THERE_ONE
    """What is asked about every image; `{category}` is the one that is asked about."""
    category: str | None = Field(
        default=None,
        description="The category that is asked about: `binary` asks whether there is one, `number` how many. "
        "A `choice` without it asks which; images with objects of several categories, or of none, are set aside.",
    )

    def asks_otherwise(self, kind: str) -> str:
        """Say what the question asks that answers of a kind do not answer; "" where it fits them."""
        if kind == "number" and self.question == _IS_THERE_ONE:
            asks = 'question: "How many of {category} are there in this image?"'
            return f"source.question asks whether there is one, and answer.kind is number: write {asks}"
        if self.category is None and kind in ("choice", "score") and "{category}" in self.question:
            asks = 'question: "Which of these does this image show?"'
            return f"source.question names the category, which is the answer: write {asks}"
        return ""


class CocoSource(DrawnObjects):
    """A COCO file. Columns: the keys of each image, `image`, `category`, `n` and `answer`."""

    kind: Literal["coco"]
    images: str | None = Field(
        default=None, description="Folder of the images, relative to the file's; by default the file's own."
    )


class VocSource(DrawnObjects):
    """A folder of Pascal VOC. Columns: `image`, `name`, `folder`, `width`, `height`, `split` and those of `coco`."""

    kind: Literal["voc"]


class YoloSource(DrawnObjects):
    """A folder of YOLO. Columns: `image`, `folders`, `split`, `category`, `n` and `answer`."""

    kind: Literal["yolo"]


class DicomSource(OwnSplits, FileSource, Columns):
    """DICOM files. Columns: their tags by keyword, `image`, `file`, `frame`, and those of the table of labels."""

    kind: Literal["dicom"]
    image: OfColumns | None = IMAGE
    question: str = "Is the finding present?"
    """What is asked about every image."""
    labels: str | None = Field(default=None, description="Table whose rows join the images, relative to the YAML file.")
    join: str = Field(default="SOPInstanceUID", description="Tag, or `file`, that is a column of that table as well.")
    frames: Literal["first", "middle", "all"] | None = Field(
        default=None, description="Which frames of a file with several are meant; such files are set aside without it."
    )
    burned_in: bool = Field(
        default=False,
        description="Take files that say that a name is burnt into their picture, too.",
    )
    group: OfColumns | None = Field(
        default="{PatientID}", description="Images for which this is the same stay in one split."
    )


class SqlSource(OwnSplits, LocatedSource, Columns, SeveralImages, SeveralAnswers):
    """The rows of a query, from any database that SQLAlchemy speaks to. Columns: those that the query gives."""

    kind: Literal["sql"]
    query: str = Field(min_length=1, description="What is read: one SELECT.")
    url_from: str | None = Field(
        default=None, description="Environment variable that holds the database's address; it never stands in a file."
    )
    path: str | None = Field(default=None, description="A file of SQLite, instead.")

    @model_validator(mode="after")
    def _one_database(self) -> SqlSource:
        if (self.url_from is None) == (self.path is None):
            raise ValueError("exactly one of url_from and path must be given")
        if "://" in (self.path or ""):
            raise ValueError(
                f"path must be a file of this machine, which is all that SQLite reads, got {self.path!r}: copy it, or "
                "write a database's address into an environment variable and name that as url_from"
            )
        return self
