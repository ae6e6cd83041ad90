"""Over the whole suite: no log and no output tells a key, and nothing brings a file to light that no task names.

Keys are known by how they look. The file, known by what is in it, lies above every folder of a test.
`FINETUNE_ASSETS_CANARIES=1` looks.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

KEYS = re.compile(r"\bsk-(?:local-[A-Za-z0-9_-]{43}|test-key\b|canary-[0-9a-f]{32})")
LOOKS = bool(os.environ.get("FINETUNE_ASSETS_CANARIES"))
CANARY = f"sk-canary-{secrets.token_hex(16)}"
LOGS = ("*.log", "*.stderr", "audit.jsonl", "*.out", "*.err")


def told(folder: Path) -> list[str]:
    """Where the logs in a folder tell a key."""
    return [
        f"{path}: {found[0][:12]}..."
        for pattern in LOGS
        for path in folder.rglob(pattern)
        if path.is_file() and (found := KEYS.search(path.read_text("utf-8", "replace")))
    ]


@pytest.fixture(scope="session", autouse=True)
def no_log_tells_a_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Plant a file, and read the logs of all servers, workers and daemons that this process has started."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "secret.txt").write_text(CANARY)
    yield
    assert not LOOKS or told(folder) == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test whose output or log tells a key."""
    report = yield
    for name, text in report.sections:
        if LOOKS and report.passed and (found := KEYS.search(text)):
            report.outcome, report.longrepr = "failed", f"{name} tells the key {found[0][:12]}..."
    return report
