"""Writes a region's benchmark for another tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from finetune_assets.errors import ExportError
from finetune_assets.evals import benchmarked, inspect_log, promptfoo_config
from finetune_assets.results.region import Region


def export(region: Region, form: Literal["inspect", "promptfoo"], folder: Path) -> list[Path]:
    """Write a benchmark into a folder, which is made, and return the files to open.

    Raises:
        RecordError: there is no benchmark, or it is of other examples.
        ExportError: the folder holds something, or the form cannot say what was asked.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is there already: name a new folder")
    found = benchmarked.read(region)
    folder.mkdir(parents=True, exist_ok=True)
    if form == "promptfoo":
        return [promptfoo_config.write(found, folder)]
    paths = []
    for name, log in inspect_log.logs(found):
        (folder / name).write_text(json.dumps(log, ensure_ascii=False, allow_nan=False), "utf-8")
        paths.append(folder / name)
    return paths
