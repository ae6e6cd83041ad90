"""Runs a command that ends with whoever started it: `python -m finetune_assets.server.bound_process COMMAND ...`.

The starter holds the other end of this process's standard input, which the system closes whichever way the starter
ends. This process must lead a session of its own: all that the command started ends with it, by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

TERMINATE_SECONDS = 5.0
"""How long the command may take to end by itself."""


def main() -> None:
    """Run the command until it ends or the starter is gone, then end the whole session, this process too."""
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_starter, args=(command,), daemon=True).start()
    command.wait()
    os.killpg(0, signal.SIGKILL)


def _end_with_starter(command: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    command.terminate()
    time.sleep(TERMINATE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
