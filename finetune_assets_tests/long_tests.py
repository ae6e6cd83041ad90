"""Tests that would make everybody wait: they run with `FINETUNE_ASSETS_LONG_TESTS=1`."""

from __future__ import annotations

import os

import pytest

LONG = bool(os.environ.get("FINETUNE_ASSETS_LONG_TESTS"))
long = pytest.mark.skipif(not LONG, reason="FINETUNE_ASSETS_LONG_TESTS=1 runs it")
