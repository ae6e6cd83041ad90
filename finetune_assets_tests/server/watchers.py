"""Who watches a training in tests."""

from __future__ import annotations

from pathlib import Path

from finetune_assets.server.training.watcher import Progress, Watcher, Wish


class Recorder(Watcher):
    """Keeps what it is told; wishes to stop after the step `stop_after`, and dies after the step `die_after`."""

    def __init__(self, *, stop_after: int | None = None, die_after: int | None = None, snapshot: bool = False) -> None:
        self.notes: list[str] = []
        self.steps: list[Progress] = []
        self.saves: list[int] = []
        self.first_step: int | None = None
        self.snapshot: Path | None = None
        self._stop_after = stop_after
        self._die_after = die_after
        self._with_snapshot = snapshot

    def note(self, message: str, level: str = "info") -> None:
        self.notes.append(message if level == "info" else f"{level}: {message}")

    def begun(self, step: int, settings: dict[str, int | float]) -> None:  # noqa: ARG002
        self.first_step = step + 1

    def stepped(self, progress: Progress) -> None:
        self.steps.append(progress)
        if progress.step == self._die_after:
            raise KeyboardInterrupt

    def saved(self) -> None:
        self.saves.append(self.steps[-1].step)

    def wish(self) -> Wish:
        if self.steps[-1].step != self._stop_after:
            return "go on"
        return "snapshot and stop" if self._with_snapshot else "stop"

    def stopped(self, progress: Progress, snapshot: Path | None) -> None:  # noqa: ARG002
        self.snapshot = snapshot
