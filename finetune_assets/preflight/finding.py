"""What is found when something is looked at before it is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["good", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    words: str
    """What was found; where it is not good, also what to do."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that a task's YAML says and that cannot be, or may not be meant so."""

    key: tuple[str | int, ...]
    """Where in the task it is said, such as `("source", "path")`."""
    words: str
    state: State = "bad"
