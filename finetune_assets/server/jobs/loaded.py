"""What every process that works on a job needs, loaded once: such processes are forked from one that holds it.

Nothing is computed here: a library that has begun to compute, on threads or on a GPU, cannot be forked.
"""

import gc

import peft  # noqa: F401  # pyright: ignore[reportUnusedImport]

import finetune_assets.server.jobs.worker
import finetune_assets.server.training.loop  # noqa: F401

# A collection in a fork would write to, and so copy, all that they share.
gc.collect()
gc.freeze()
