"""What several servers and workers, each with a folder of its own, have in common."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.bucket import VARIABLE as STORE
from finetune_assets.server.database.postgres import VARIABLE as DATABASE

LEASE = "FINETUNE_ASSETS_LEASE_SECONDS"
LEASE_SECONDS = 60.0
LONGEST_LEASE_SECONDS = 3600


class NothingSharedError(FinetuneAssetsError, ValueError):
    """A process was not told where others keep what it would work on with them."""


class LeaseError(FinetuneAssetsError, ValueError):
    """The environment names a length of leases that cannot be."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Where state is kept; None is the server's own folder, which then no other process serves."""

    database: str | None = field(default=None, repr=False)
    """URL of a PostgreSQL database. It may hold a password."""
    store: str | None = None
    """URL of a prefix in an object store."""
    lease_seconds: float = LEASE_SECONDS
    """How long a worker that is not heard of keeps its job."""

    @classmethod
    def from_environment(cls) -> Shared:
        """Read what a server hands on to the processes that it starts: command lines are for all to see.

        Raises:
            LeaseError: the length of a lease is none.
        """
        said = os.environ.get(LEASE) or str(LEASE_SECONDS)
        if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", said) or not 1 <= float(said) <= LONGEST_LEASE_SECONDS:
            raise LeaseError(
                f"{LEASE} must be a number of seconds from 1 to {LONGEST_LEASE_SECONDS}, got {said[:40]!r}"
            )
        return cls(os.environ.get(DATABASE) or None, os.environ.get(STORE) or None, float(said))

    def environment(self) -> dict[str, str]:
        """Return what `from_environment` reads."""
        return {DATABASE: self.database or "", STORE: self.store or "", LEASE: str(self.lease_seconds)}
