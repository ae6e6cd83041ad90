"""Waiting in tests: for what happens, never for a time. The limit only ends what hangs, on the slowest machine too."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 240.0


def wait_until(condition: Callable[[], object], told: Callable[[], object] = lambda: "it never came") -> None:
    """Return once the condition holds; a test that waits in vain fails with what `told` says then."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)
