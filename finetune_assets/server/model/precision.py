"""Where models compute, and in which precision.

`FINETUNE_ASSETS_DTYPE` decides; left at `auto`, it is bfloat16 on a GPU and on CPUs that are faster with it, float32 on
all others. It holds for all that compute: the trainer, the answers, and what is measured of either.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from torch import nn

from finetune_assets.server.base_models import SHARE
from finetune_assets.server.devices import wanted_precision

_CPU_INFO = Path("/proc/cpuinfo")
_DECIDED = SHARE / "cpu_dtype.json"


def device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """Return the GPU if there is one, else the CPU, and the type that models have there.

    Raises:
        PrecisionError: `FINETUNE_ASSETS_DTYPE` names no precision.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = wanted_precision()
    if wanted == "auto":
        wanted = "bfloat16" if device.type == "cuda" else _faster_on_this_cpu()
    return device, getattr(torch, wanted)


@cache
def _faster_on_this_cpu() -> str:
    """`bfloat16` or `float32`, decided once for a processor and written down, so that a seed keeps its weights."""
    processor = re.search(r"model name\s*:\s*(.+)", _CPU_INFO.read_text()) if _CPU_INFO.exists() else None
    name = f"{processor[1] if processor else platform.processor()}, torch {torch.__version__}"
    decided: dict[str, str] = json.loads(_DECIDED.read_text()) if _DECIDED.exists() else {}
    if name not in decided:
        decided[name] = "bfloat16" if _bfloat16_is_faster() else "float32"
        with suppress(OSError):  # an environment that cannot be written to measures each time
            scratch = _DECIDED.with_name(f".{_DECIDED.name}.{os.getpid()}")
            scratch.write_text(json.dumps(decided, indent=1))
            scratch.replace(_DECIDED)
    return decided[name]


def _bfloat16_is_faster() -> bool:
    """Whether this CPU multiplies bfloat16 matrices clearly faster than float32.

    Measured, because the feature flags do not tell: of two CPUs with avx512_bf16, one was twice as fast
    in bfloat16 and the other a third slower. The best of many short rounds on one thread is the same on a
    busy machine as on an idle one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(25):
        for dtype in best:
            x, w = torch.ones(64, 576, dtype=dtype), torch.ones(576, 576, dtype=dtype)
            start = time.perf_counter()
            nn.functional.linear(x, w)
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    torch.set_num_threads(threads)
    return best[torch.bfloat16] * 1.3 < best[torch.float32]
