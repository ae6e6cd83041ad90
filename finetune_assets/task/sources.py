"""What a task's YAML says under `source`: where its labelled examples come from. Nothing here reads them.

A relative path is looked for beside the YAML file first, then in the folder that the program runs in.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Len
from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from finetune_assets.task.dialect import Dialect, Values
from finetune_assets.task.several_images import SeveralImages, images_of
from finetune_assets.task.strict import Strict, Text

Split = Literal["train", "validation", "calibration", "test"]
MAX_NAME = 64
"""Characters of a region's name."""


def is_name(text: str) -> bool:
    """Return whether a text can name a region: lower-case letters, marks, digits of any script, and `_`, `.`, `-`."""
    if not text or not text[0].isalnum() or len(text) > MAX_NAME or ".." in text:
        return False
    as_compared = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return text == as_compared and all(char in "_.-" or unicodedata.category(char)[0] in "LMN" for char in text)


def _a_name(found: str) -> str:
    if not is_name(found):
        spelled = "-".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", found).casefold()).split())
        meant = f"; write {spelled}" if spelled != found and is_name(spelled) else ""
        rule = "must be lower case without spaces: `R2A` in the data is r2a here, `Left lung` is left-lung"
        raise ValueError(f"{rule}, got {found!r}{meant}")
    return found


Name = Annotated[Text, AfterValidator(_a_name)]
"""A region: a partition's name, a file's name and part of a model's name."""


def _with_a_group(pattern: str) -> str:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise ValueError(f"{pattern!r} needs a group: put the part that is meant in parentheses")
    return pattern


Pattern = Annotated[str, AfterValidator(_with_a_group)]
"""A regular expression; the first of its groups that takes part in a match is what is meant."""


def _holds_a_column(text: str, info: ValidationInfo) -> str:
    if not columns_in(text):
        one_word = re.fullmatch(r"[\w.-]+", text.strip())
        example = text.strip() if one_word else {"image": "file"}.get(str(info.field_name), info.field_name)
        raise ValueError(f'{info.field_name} must name a column in braces, such as "{{{example}}}"')
    return text


def _a_column_or_a_name(text: str) -> str:
    if not columns_in(text) and not is_name(text):
        raise ValueError(f'region must be a column in braces, such as "{{region}}", or a name, got {text!r}')
    return text


MAX_PEOPLE = 50
"""Whose answers to one question may stand in columns of their own."""
OfColumns = Annotated[str, AfterValidator(_holds_a_column)]
"""A text in which `{column}` stands for a row's cell of that column."""
RegionOfColumns = Annotated[str, AfterValidator(_a_column_or_a_name)]
"""As `OfColumns`, or the one region of all rows."""


GROUP_PATTERN: Any = Field(
    default=None, description="Regular expression on what group is; the first of its groups is meant instead of all."
)
REGION_PATTERN: Any = Field(
    default=None, description="Regular expression on what region is; the first of its groups is meant instead of all."
)
SPLIT_FROM_PATH: Any = Field(
    default=None,
    description="Regular expression on each file's name, or else on all of its folder's; its group is the split that "
    "the file was published as.",
)
SPLIT_WORDS: Any = Field(default=None, description="What the data's own words for splits mean, such as {fold_9: test}.")


class ElpvSource(Strict):
    """Solar cells of the package `elpv-dataset`; its regions are the module types `mono` and `poly`.

    The experts' defect probability is 0, 1/3, 2/3 or 1; the two in the middle are marked doubtful.
    """

    kind: Literal["elpv"]
    question: str = "Is this cell defective?"
    """What is asked about every image."""


class DiamondsSource(Strict):
    """Descriptions of the 53,940 diamonds of the package plotnine, with prices in thousands of US dollars.

    Its regions are the cuts.
    """

    kind: Literal["diamonds"]
    question: str = "How much does this diamond cost?"
    """What follows every description."""


class ScienceFactsSource(Strict):
    """Questions with answer and explanation from the packages scipy, mendeleev and Biopython.

    Its regions are `physics`, `chemistry` and `biology`.
    """

    kind: Literal["science_facts"]


class GeneratedSource(Strict):
    """Images that are drawn when they are first needed, the same ones on every machine, and kept under `var/`.

    `markers`: white images with two pairs of letters, and a question about where one pair lies; the regions are the
    relations `left`, `right`, `above` and `below`.
    """

    kind: Literal["generated"]
    what: Literal["markers"]
    """Which images are drawn."""
    count: int = Field(default=400, ge=1, le=100_000, description="Images for each region.")
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Another seed draws other images.")


class LocatedSource(Strict):
    """A source that may name a path relative to its YAML file."""

    _folder: Path | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        """Remember the YAML file's folder, which whoever reads it gives as `folder` in the validation's context."""
        self._folder = (context or {}).get("folder")

    @property
    def folder(self) -> Path | None:
        """The YAML file's folder, or None where the task comes from elsewhere."""
        return self._folder


class FileSource(LocatedSource):
    """A source in a file of its own."""

    path: str = Field(
        min_length=1,
        description="The file: relative as said above, absolute, or any fsspec URL. A `*` in its name takes many.",
    )


class Pictured(Strict):
    """A source whose rows name images."""

    window: tuple[float, float] | None = Field(
        default=None,
        description="Stored pixel values that become black and white, such as [0, 4095], for images of more than 8 "
        "bits; by default what each file declares, else what it holds.",
    )
    image_root: str | None = Field(
        default=None,
        description="A folder that images may lie in beside the table's own: relative to that, absolute, or a URL.",
    )

    @field_validator("window")
    @classmethod
    def _low_is_below_high(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not window[0] < window[1]:
            raise ValueError(f"window must be [low, high] with low below high, got {list(window)}")
        return window


_M = TypeVar("_M", bound=Strict)


def _with_its_group(source: _M, group: str | None) -> _M:
    if getattr(source, "group_pattern", None) is not None and group is None:
        raise ValueError('group_pattern looks into the group: name that too, such as group: "{image}"')
    return source


def _with_its_region(source: _M, region: str) -> _M:
    if getattr(source, "region_pattern", None) is not None and not columns_in(region):
        raise ValueError('region_pattern looks into the region: let that be a column, such as region: "{image}"')
    return source


def _with_its_split(source: _M, split: str | None) -> _M:
    by_file = getattr(source, "split_from_path", None)
    if by_file is not None and split is not None:
        raise ValueError("a split is named by the records or by split_from_path, not by both")
    if getattr(source, "splits", None) is not None and split is None and by_file is None:
        raise ValueError("splits says what the data's words for splits mean: name also where they stand")
    return source


class OwnSplits(Strict):
    """Splits that the data was published with: they are used as published."""

    split: OfColumns | None = Field(
        default=None,
        description="The split that a row was published in. Calibration, and validation where there is none, are cut "
        "out of the published validation or train.",
    )
    splits: dict[str, Split] | None = SPLIT_WORDS

    @model_validator(mode="after")
    def _words_of_a_split(self) -> OwnSplits:
        return _with_its_split(self, self.split)


class SeveralAnswers(Strict):
    """A source whose rows hold the answers of several people, each in a column of its own."""

    answers: Annotated[list[OfColumns], Len(2, MAX_PEOPLE)] | None = Field(
        default=None,
        description="Columns that hold one person's answer each, instead of `answer`: the majority is the label.",
    )

    @model_validator(mode="after")
    def _each_is_one_person_s(self) -> SeveralAnswers:
        if self.answers is not None:
            if beside := sorted({"answer", "annotator"} & self.model_fields_set):
                raise ValueError(f"{beside[0]} and answers exclude each other: each of the answers is one person's")
            if len(set(self.answers)) < len(self.answers):
                raise ValueError(f"answers must be different columns, got {', '.join(self.answers)}")
        return self


class Tables(Strict):
    """What may be said of tables of any kind."""

    dialect: Dialect = Field(default=Dialect(), description="How the tables are written, where they do not show it.")
    values: Values | None = Field(
        default=None, description="What the answer's cells mean, as they are written: {0: intact, 1: crack}."
    )


class ScoredImagesSource(Tables, OwnSplits, FileSource, Pictured):
    """A table with the columns `image_url`, `score` (0 to 1) and `region`, or others so named."""

    kind: Literal["scored_images"]
    split_from_path: Pattern | None = SPLIT_FROM_PATH
    image: OfColumns = Field(default="{image_url}", description="Path of an image, relative to the table's folder.")
    score: OfColumns = "{score}"
    """Column of the score, from 0 to 1."""
    region: RegionOfColumns = Field(default="{region}", description="A column in braces, or one name for all rows.")
    region_pattern: Pattern | None = REGION_PATTERN
    group: OfColumns | None = Field(
        default=None,
        description="Rows for which this is the same stay in one split. By default the column `group`, where it is.",
    )
    group_pattern: Pattern | None = GROUP_PATTERN
    subgroup: OfColumns = Field(
        default="{subgroup}", description="The benchmark is also reported apart for each value; may be missing too."
    )
    question: str = "Is the finding present?"
    """What is asked about every image."""
    threshold: float = Field(default=0.5, ge=0, le=1, description="Scores above it count as the positive answer.")
    doubtful_between: tuple[float, float] | None = Field(
        default=None, description="Scores strictly between these two are set aside for a reviewer."
    )

    @model_validator(mode="after")
    def _patterns_of_something(self) -> ScoredImagesSource:
        return _with_its_region(_with_its_group(self, self.group), self.region)


class _OneWayToTheRegion(FileSource):
    region: Name | None = Field(default=None, description="All examples are of this one region.")
    region_field: str | None = Field(default=None, description="Key of an entry that names its region.")
    region_from_question: Pattern | None = Field(
        default=None, description="Regular expression on the question; its group is the region."
    )

    @model_validator(mode="after")
    def _one_way_to_the_region(self) -> _OneWayToTheRegion:
        ways = [name for name in type(self).model_fields if name.startswith("region")]
        if len([name for name in ways if getattr(self, name) is not None]) != 1:
            raise ValueError(f"exactly one of {', '.join(sorted(ways))} must be given")
        return self


class ImageQaSource(_OneWayToTheRegion, Pictured):
    """A `qa_*.json` list of `filename` and `question_answer` entries beside a folder of images.

    Where `path` takes several files by a `*`, a `*` in `images` stands for the same: `qa_*.json` with `image_*`.
    """

    kind: Literal["image_qa"]
    images: str = Field(description="The image folder; relative to the JSON file's folder.")
    region_from_path: Pattern | None = Field(
        default=None, description="Regular expression on the JSON file's name; its group is the region."
    )
    region_pattern: Pattern | None = Field(
        default=None, description="Regular expression on the file name; its group is the region."
    )
    group_pattern: Pattern | None = Field(
        default=None, description="Regular expression on the file name; images with one group stay in one split."
    )
    same_names: Literal["together", "apart"] = Field(
        default="together",
        description="Images of the same name in the folders of several files stay in one split, or need not.",
    )
    split_field: str | None = Field(default=None, description="Key of an entry: the split that it was published in.")
    split_from_path: Pattern | None = SPLIT_FROM_PATH
    splits: dict[str, Split] | None = SPLIT_WORDS

    @model_validator(mode="after")
    def _words_of_a_split(self) -> ImageQaSource:
        return _with_its_split(self, self.split_field)

    @model_validator(mode="after")
    def _stars_in_pairs(self) -> ImageQaSource:
        if "*" in self.images and self.path.rpartition("/")[2].count("*") != 1:
            raise ValueError(f"the * of images stands for the one in the name of path, got path {self.path!r}")
        return self


class ChatJsonlSource(_OneWayToTheRegion, Pictured):
    """Files in the chat format that providers train on; the answer is read from the assistant's message.

    `region_field` is a key of the line, or of its `metadata`.
    """

    kind: Literal["chat_jsonl"]
    group_field: str | None = Field(
        default=None, description="Key of a line, or of its metadata; lines that share it stay in one split."
    )
    group_pattern: Pattern | None = GROUP_PATTERN
    split_field: str | None = Field(
        default=None, description="Key of a line, or of its metadata: the split that it was published in."
    )
    split_from_path: Pattern | None = SPLIT_FROM_PATH
    splits: dict[str, Split] | None = SPLIT_WORDS

    @model_validator(mode="after")
    def _words_of_a_split(self) -> ChatJsonlSource:
        return _with_its_group(_with_its_split(self, self.split_field), self.group_field)


class Parts(Pictured):
    """What each row's parts are made of: texts in which `{column}` stands for the cell of that column."""

    image: OfColumns | None = Field(default=None, description="Path of an image, relative to the table's folder.")
    question: str = Field(default="{question}", description="Or one question that is asked about every image.")
    answer: OfColumns = "{answer}"
    """The true answer: one of the task's words, a number, or a text."""
    support: OfColumns | None = Field(
        default=None, description="Explanation that follows a text answer, after the answer's separator."
    )
    region: RegionOfColumns = Field(default="{region}", description="A column in braces, or one name for all rows.")
    region_pattern: Pattern | None = REGION_PATTERN
    group: OfColumns | None = Field(default=None, description="Rows for which this is the same stay in one split.")
    group_pattern: Pattern | None = GROUP_PATTERN
    subgroup: OfColumns | None = Field(
        default=None, description="The benchmark is also reported apart for each value of this, such as {camera}."
    )
    doubt: OfColumns | None = Field(
        default=None, description="Why a row's label is doubtful; where it is empty, the label is not."
    )
    annotator: OfColumns | None = Field(
        default=None,
        description="Who gave the answer: rows that ask the same are votes, and the majority is the label.",
    )
    min_agreement: float = Field(
        default=0.5, ge=0.5, lt=1, description="Share of the votes above which the majority is not doubtful."
    )

    @model_validator(mode="after")
    def _patterns_of_something(self) -> Parts:
        return _with_its_region(_with_its_group(self, self.group), self.region)

    @field_validator("question")
    @classmethod
    def _rows_differ(cls, text: str, info: ValidationInfo) -> str:
        return text if info.data.get("image") or info.data.get("images") else _holds_a_column(text, info)


class Columns(Tables, Parts):
    """A source of tables whose rows are examples."""


class TableSource(OwnSplits, FileSource, Columns, SeveralImages, SeveralAnswers):
    """Any CSV, TSV, JSON, JSONL, Parquet or Excel table, or a folder of them, one example a row."""

    kind: Literal["table"]
    split_from_path: Pattern | None = SPLIT_FROM_PATH


class HuggingFaceSource(LocatedSource, Columns, SeveralImages, SeveralAnswers):
    """A dataset of the Hugging Face hub by name, or a local folder in the hub's layout."""

    kind: Literal["huggingface"]
    name: str | None = Field(default=None, description="Name on the hub, such as allenai/sciq.")
    config: str | None = Field(default=None, description="Which of the dataset's configurations (subsets).")
    path: str | None = Field(default=None, description="A local folder, or any fsspec URL, instead of a name.")
    splits: list[str] | dict[str, Split] | None = Field(
        default=None,
        description="The dataset's own splits and what each is here, such as {train: train, dev: validation, "
        "test: test}. A list of them is taken together and cut anew. By default all, as their names say.",
    )

    @model_validator(mode="after")
    def _by_name_or_by_path(self) -> HuggingFaceSource:
        if (self.name is None) == (self.path is None):
            raise ValueError("exactly one of name and path must be given")
        if self.path is not None and self.config is not None:
            raise ValueError("config goes with name; a path names the configuration's own folder")
        return self


def answers_of(source: Parts) -> list[str]:
    """List the texts of columns that hold an answer of each row: one, or one of each person."""
    return (source.answers if isinstance(source, SeveralAnswers) else None) or [source.answer]


def window_of(source: object) -> tuple[float, float] | None:
    """Return the range of stored pixel values that a source's images are shown in; None where it names none."""
    return source.window if isinstance(source, Pictured) else None


def shows_images(source: object) -> bool | None:
    """Return whether each example of a source has an image, or none has; None where the lines of a file decide."""
    if isinstance(source, ChatJsonlSource):
        return None
    if isinstance(source, Parts):
        return source.image is not None or bool(images_of(source))
    return isinstance(source, ElpvSource | GeneratedSource | ScoredImagesSource | ImageQaSource)


def texts_of(source: object) -> list[str]:
    """List what a source's keys say as texts, in which columns may be named."""
    return [value for _, value in source if isinstance(value, str)] if isinstance(source, Strict) else []


@cache
def columns_in(text: str) -> tuple[str, ...]:
    """List the columns that a text names in braces."""
    return tuple(re.findall(r"\{([^{}]+)\}", text))
