"""How far each region of a demo is, and how that is shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.provider import fine_tuning

STAGES = [*PREPARE, *EVALUATE]


@dataclass
class RegionState:
    """How far one region is."""

    region: str
    made: dict[str, float] = field(default_factory=dict)
    """Stages made since the demo began, with when (Unix seconds)."""
    training: fine_tuning.Progress | None = None
    job_id: str | None = None
    """Of its training, once that is submitted."""
    failure: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.failure is not None or set(STAGES) <= self.made.keys()

    @property
    def is_training(self) -> bool:
        """Whether its job goes on at the provider, so that nothing happens in Dagster."""
        goes_on = self.training is not None and self.training.status not in fine_tuning.ENDED
        return goes_on and "finetuned_model" not in self.made

    @property
    def now(self) -> str:
        """What is going on, in words."""
        if self.failure:
            return "failed"
        following = next((stage for stage in STAGES if stage not in self.made), None)
        if following is None:
            return "done"
        if following == "finetuned_model" and self.training:
            return f"training: {self.training}"
        return following

    @property
    def remaining(self) -> str:
        """Time until the training ends, where the provider says."""
        finish = self.training.estimated_finish if self.training and "finetuned_model" not in self.made else None
        return f"{max(0, finish - int(time.time()))} s" if finish else ""


def clock(made: Mapping[str, float], began: float) -> dict[str, float]:
    """Return how many seconds each stage took: since the one before it was made, waiting included.

    Args:
        made: when each stage was made, in Unix seconds.
        began: when the first one could begin. The seconds add up to those from then until all were made.
    """
    moments = sorted((when, stage) for stage, when in made.items())
    before = [began, *(when for when, _ in moments)]
    return {stage: round(when - earlier, 1) for (when, stage), earlier in zip(moments, before, strict=False)}


class Display:
    """A table that moves on a terminal; elsewhere a line whenever something has changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, states: list[RegionState]) -> None:
        """Show how far all regions are."""
        if self._live:
            table = Table("region", "stages made", "now", "training ends in")
            for state in states:
                table.add_row(state.region, f"{len(state.made)} of {len(STAGES)}", state.now, state.remaining)
            self._live.update(table)
            return
        for state in states:
            said = f"{state.region}: {len(state.made)} of {len(STAGES)} stages made; {state.now}"
            if said != self._said.get(state.region):
                self._said[state.region] = said
                self._console.print(said + (f", ends in {state.remaining}" if state.remaining else ""), highlight=False)
