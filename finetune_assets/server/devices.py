"""What this machine computes with, found without importing torch, which would take seconds and hold on to the GPU."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Literal, get_args

from finetune_assets.errors import PrecisionError

_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
PRECISION = "FINETUNE_ASSETS_DTYPE"
Precision = Literal["auto", "float32", "bfloat16"]


def wanted_precision() -> Precision:
    """Return what `FINETUNE_ASSETS_DTYPE` says of the precision in which models compute; `auto` where it is not set.

    Raises:
        PrecisionError: it names none.
    """
    said = os.environ.get(PRECISION) or "auto"
    for precision in get_args(Precision):
        if precision == said:
            return precision
    raise PrecisionError(
        f"{PRECISION} is {said!r}, which is no precision that models compute in here; "
        f"set it to {', '.join(get_args(Precision)[:-1])} or {get_args(Precision)[-1]}"
    )


def cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cuda_devices() -> list[str]:
    """Name the GPUs as `CUDA_VISIBLE_DEVICES` does: all of the machine's, or those that this variable leaves."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        # CUDA counts those it sees from 0, whatever their numbers in /dev are: a container may hold only /dev/nvidia3.
        return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    named = (name.strip() for name in visible.split(","))
    return list(takewhile(lambda name: name not in ("", "-1"), named))


def ram_bytes() -> int:
    """Return the memory that this process may use: the machine's, or what its control group allows of it."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for file in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # the second of "max", which is no number
            limits.append(int(file.read_text()))
    return min(limits)


def jobs_per_device() -> int:
    """How many jobs train at once on one device: one on a GPU, two on the CPU where it has two cores or more."""
    return 1 if cuda_devices() else min(2, cores())


def jobs_per_process() -> int:
    """How many jobs of one base model a process trains together at most."""
    return 8 if cuda_devices() else 1


def threads_per_process(jobs: int | None = None) -> int:
    """Compute threads of each training process, and of the server itself; `jobs` per device, None for the usual number.

    Two jobs side by side on one thread each finish sooner than one after the other on two: a small model's matrices
    are too small for threads. On a 2-core machine two such jobs learned 12.2 examples a second together, one on two
    threads 9.1; and threads that wait for each other lose far more once any other process is busy.
    """
    return max(1, cores() // ((jobs or jobs_per_device()) * max(1, len(cuda_devices()))))
