"""Where a region's outputs lie."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from upath import UPath

from finetune_assets import __version__
from finetune_assets.task import Task

if TYPE_CHECKING:
    from finetune_assets.dataset.image_store import ImageStore

ANSWERS = "var/answers.sqlite"


@dataclass(frozen=True, slots=True)
class Outputs:
    """The folder that holds the outputs of all tasks: `<root>/<task>/<stage>/<region>…`."""

    root: str
    """A directory or any fsspec URL, such as s3://bucket/prefix."""
    answers: str = ANSWERS
    """The file on this machine's own disk that keeps models' answers, so that none is asked twice."""

    def path(self, task: str, stage: str, region: str, ending: str) -> UPath:
        """Return where a stage keeps one file of a region; `ending` starts with "." (a file) or "/" (in a folder)."""
        return UPath(self.root) / task / stage / f"{region}{ending}"


def default_root() -> str:
    """Return `FINETUNE_ASSETS_DATA`, else `data/outputs` under the working directory, which is the project's."""
    return os.environ.get("FINETUNE_ASSETS_DATA") or str(UPath("data/outputs").absolute())


@dataclass(frozen=True)
class Region:
    """One region of one task, as a stage sees it."""

    task: Task
    name: str
    outputs: Outputs
    run_id: str = ""
    """The run that asks, or the first one that it repeats or stands for."""

    def path(self, stage: str, ending: str) -> UPath:
        """Return where a stage keeps one file of this region, beside its value."""
        return self.outputs.path(self.task.task, stage, self.name, ending)

    @property
    def images(self) -> ImageStore:
        """The task's images that have no file of their own, of all its regions: `<task>/images/`."""
        from finetune_assets.dataset.image_store import ImageStore

        return ImageStore(UPath(self.outputs.root) / self.task.task / "images")

    def training_file(self, split: str) -> UPath:
        """Return where the chat-format file of a split is: `training_jsonl/<region>/<split>.jsonl`."""
        return self.path("training_jsonl", f"/{split}.jsonl")


_NOT_OF_ITS_MODELS = {"description", "in_use", "notify", "owners", "tags", "run_tags", "op_tags"}


def task_fingerprint(task: Task) -> str:
    """Return the SHA-256 (hex) of all that the task says of its models, and of this package's version."""
    return hashlib.sha256(f"{__version__}\n{task.model_dump_json(exclude=_NOT_OF_ITS_MODELS)}".encode()).hexdigest()
