"""Weights & Biases runs of a job, one for each of its integrations.

Without `WANDB_API_KEY` a run is kept in `<home>/wandb`, from where `wandb sync` sends it. A job that is resumed goes on
in its run. Whatever goes wrong here is told in an event and never fails the job.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_assets.server.database.schema import Job


class WandbRuns:
    """The runs of one job; `tell` takes a message and a level."""

    def __init__(self, job: Job, folder: Path, tell: Callable[[str, str], None]) -> None:
        self._job = job
        self._folder = folder
        self._tell = tell
        self._runs: list[Any] = []

    def start(self, settings: dict[str, int | float]) -> None:
        """Open the runs, with the job and its resolved hyperparameters as their configuration."""
        for number, integration in enumerate(self._job.integrations or []):
            self._safely("could not be opened", self._open, number, integration["wandb"], settings)

    def log(self, metrics: dict[str, Any]) -> None:
        """Log the metrics of one step."""
        values = {name: value for name, value in metrics.items() if name not in ("step", "total_steps")}
        for run in self._runs:
            self._safely("takes no metrics", run.log, values, metrics["step"])

    def finish(self) -> None:
        """Complete the runs."""
        for run in self._runs:
            self._safely("could not be completed", run.finish)

    def _open(self, number: int, asked: dict[str, Any], settings: dict[str, int | float]) -> None:
        import wandb

        offline = not os.environ.get("WANDB_API_KEY")
        self._folder.mkdir(exist_ok=True)
        quiet = wandb.Settings(
            console="off", disable_code=True, disable_git=True, disable_job_creation=True, init_timeout=20,
            save_code=False, silent=True, x_disable_machine_info=True, x_disable_meta=True, x_disable_stats=True,
        )  # fmt: skip
        run = wandb.init(
            project=asked["project"],
            name=asked.get("name") or self._job.tuned_model,
            entity=asked.get("entity"),
            tags=asked.get("tags"),
            id=f"{self._job.id}-{number}",
            resume="allow",
            reinit="create_new",
            mode="offline" if offline else "online",
            dir=self._folder,
            config={"job": self._job.id, "model": self._job.model, "method": self._job.method, "seed": self._job.seed}
            | settings,
            settings=quiet,
        )
        self._runs.append(run)
        where = f"in {Path(run.dir).parent} (`wandb sync` sends it)" if offline else f"at {run.url}"
        self._tell(f"Weights & Biases run {where}", "info")

    def _safely(self, problem: str, act: Callable[..., object], *arguments: object) -> None:
        try:
            act(*arguments)
        except Exception as error:  # noqa: BLE001 - a service beside the job must not fail it, whatever it raises
            self._tell(f"Weights & Biases {problem}: {type(error).__name__}: {error}", "warn")
