"""How far each region of a demo is, and how that is shown."""

from __future__ import annotations

import time
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
    made: set[str] = field(default_factory=set)
    """Stages made since the demo began."""
    training: fine_tuning.Progress | None = None
    job_id: str | None = None
    """Of its training, once that is submitted."""
    failure: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.failure is not None or self.made.issuperset(STAGES)

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
