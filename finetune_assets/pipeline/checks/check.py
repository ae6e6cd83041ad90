"""What an asset check is: its name, its usual severity, and what a task says of it.

A check of severity `error` that fails ends the region's run; one of severity `warn` warns. `checks` in the task's YAML
changes the severity of a check or switches it off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from finetune_assets.task import Task


@dataclass(frozen=True)
class Check:
    """A named question about one region's asset. It blocks what follows unless the task says otherwise, or not."""

    name: str
    description: str
    blocking: bool = False
    of: Callable[[Task], bool] | None = None
    """Which tasks have it; None is all."""

    def severity(self, task: Task) -> Literal["off", "warn", "error"]:
        """What the task says of it, else its usual severity."""
        return task.checks.get(self.name, "error" if self.blocking else "warn")

    def asked(self, task: Task) -> bool:
        """Whether the task has it at all."""
        return self.severity(task) != "off" and (self.of is None or self.of(task))

    def spec(self, key: dg.AssetKey, partitions: dg.PartitionsDefinition, task: Task) -> dg.AssetCheckSpec:
        """Declare the check on an asset, with one result for each region."""
        blocking = self.severity(task) == "error"
        return dg.AssetCheckSpec(
            self.name, asset=key, description=self.description, blocking=blocking, partitions_def=partitions
        )

    def result(
        self,
        passed: bool,
        words: str,
        severity: dg.AssetCheckSeverity | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dg.AssetCheckResult:
        """Answer it. What does not block is a warning, unless said otherwise."""
        usual = dg.AssetCheckSeverity.ERROR if self.blocking else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(
            passed=passed, check_name=self.name, description=words, severity=severity or usual, metadata=metadata
        )


def as_asked(task: Task, result: dg.MaterializeResult | dg.AssetCheckResult | dg.AssetObservation) -> Iterator[Any]:
    """Give a stage's check results the severities that the task asks for, and leave out those that it switches off."""
    if isinstance(result, dg.AssetObservation):
        yield result
        return
    results = result.check_results if isinstance(result, dg.MaterializeResult) else [result]
    asked = [_with_severity(task, check) for check in results or [] if task.checks.get(str(check.check_name)) != "off"]
    if isinstance(result, dg.MaterializeResult):
        yield result._replace(check_results=asked)
    else:
        yield from asked


def _with_severity(task: Task, result: dg.AssetCheckResult) -> dg.AssetCheckResult:
    asked = task.checks.get(str(result.check_name))
    if asked is None:
        return result
    severity = dg.AssetCheckSeverity.ERROR if asked == "error" else dg.AssetCheckSeverity.WARN
    return result._replace(severity=severity)
