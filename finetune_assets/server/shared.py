"""What several servers and workers, each with a folder of its own, have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from finetune_assets.server.database.postgres import VARIABLE as DATABASE


@dataclass(frozen=True, slots=True)
class Shared:
    """Where state is kept; None is the server's own folder, which then no other process serves."""

    database: str | None = field(default=None, repr=False)
    """URL of a PostgreSQL database. It may hold a password."""

    @classmethod
    def from_environment(cls) -> Shared:
        """Read what a server hands on to the processes that it starts: command lines are for all to see."""
        return cls(os.environ.get(DATABASE) or None)

    def environment(self) -> dict[str, str]:
        """Return what `from_environment` reads."""
        return {DATABASE: self.database or ""}
