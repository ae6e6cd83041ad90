"""What the assets are given: the place of their outputs, and the IO managers that write there."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field
from upath import UPath

from finetune_assets.pipeline.io_manager import JsonIOManager, ParquetIOManager
from finetune_assets.results.region import ANSWERS, Outputs, default_root


class OutputsResource(dg.ConfigurableResource):
    """The folder that holds the outputs of all tasks, as Dagster shows it."""

    root: str = Field(description="A directory or any fsspec URL, such as s3://bucket/prefix.")
    answers: str = Field(
        default=ANSWERS,
        description="The file on this machine's own disk that keeps models' answers, so that none is asked twice.",
    )

    def folder(self) -> Outputs:
        """Return it as what is no part of Dagster reads it."""
        return Outputs(self.root, self.answers)


def output_resources(root: str | None = None, answers: str = ANSWERS) -> dict[str, Any]:
    """Return the resources that `build_task`'s assets need, all writing under one root."""
    root = root or default_root()
    return {
        "outputs": OutputsResource(root=root, answers=answers),
        "tables": ParquetIOManager(UPath(root)),
        "records": JsonIOManager(UPath(root)),
    }
