"""Programs that do the same at the same moment, each in a folder of its own, as machines of a team do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def at_once(program: str, arguments: Sequence[str], folders: Sequence[Path]) -> list[tuple[str, int]]:
    """Run a program in each folder, and return what each printed and its exit code.

    It prints "ready" when it could begin, and waits for a line; all of them get it once all are ready.
    """
    command, pipe = [sys.executable, "-c", program, *arguments], subprocess.PIPE
    machines: list[subprocess.Popen[str]] = []
    for folder in folders:
        folder.mkdir()
        machines.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder))
    for machine in machines:
        assert machine.stdout and machine.stdout.readline() == "ready\n"
    for machine in machines:
        assert machine.stdin
        machine.stdin.write("\n")
        machine.stdin.flush()
    return [(machine.communicate()[0].strip(), machine.returncode) for machine in machines]
