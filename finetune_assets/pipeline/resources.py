"""What the assets are given: the place of their outputs, and the IO managers that write there."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg
from pydantic import Field
from upath import UPath

from finetune_assets.pipeline.io_manager import JsonIOManager, ParquetIOManager

ANSWERS = "var/answers.sqlite"


class Outputs(dg.ConfigurableResource):
    """The folder that holds the outputs of all tasks: `<root>/<task>/<stage>/<region>…`."""

    root: str = Field(description="A directory or any fsspec URL, such as s3://bucket/prefix.")
    answers: str = Field(
        default=ANSWERS,
        description="The file on this machine's own disk that keeps models' answers, so that none is asked twice.",
    )

    def path(self, task: str, stage: str, region: str, ending: str) -> UPath:
        """Return where a stage keeps one file of a region; `ending` starts with "." (a file) or "/" (in a folder)."""
        return UPath(self.root) / task / stage / f"{region}{ending}"


def default_root() -> str:
    """Return `FINETUNE_ASSETS_DATA`, else `data/outputs` under the working directory, which is the project's."""
    return os.environ.get("FINETUNE_ASSETS_DATA") or str(UPath("data/outputs").absolute())


def output_resources(root: str | None = None, answers: str = ANSWERS) -> dict[str, Any]:
    """Return the resources that `build_task`'s assets need, all writing under one root."""
    root = root or default_root()
    return {
        "outputs": Outputs(root=root, answers=answers),
        "tables": ParquetIOManager(UPath(root)),
        "records": JsonIOManager(UPath(root)),
    }
