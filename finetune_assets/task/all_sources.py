"""Every kind of source that a task may name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_assets.task.annotations import (
    CocoSource,
    DicomSource,
    ImageFolderSource,
    LabelStudioSource,
    SqlSource,
    VocSource,
    YoloSource,
)
from finetune_assets.task.sources import (
    ChatJsonlSource,
    DiamondsSource,
    ElpvSource,
    GeneratedSource,
    HuggingFaceSource,
    ImageQaSource,
    ScienceFactsSource,
    ScoredImagesSource,
    TableSource,
)

Source = Annotated[
    ElpvSource
    | DiamondsSource
    | ScienceFactsSource
    | GeneratedSource
    | ScoredImagesSource
    | ImageQaSource
    | ChatJsonlSource
    | TableSource
    | HuggingFaceSource
    | ImageFolderSource
    | LabelStudioSource
    | CocoSource
    | VocSource
    | YoloSource
    | DicomSource
    | SqlSource,
    Field(discriminator="kind"),
]
