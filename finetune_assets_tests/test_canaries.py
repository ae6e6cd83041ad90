"""The canaries themselves sing."""

from __future__ import annotations

import secrets
from pathlib import Path

from finetune_assets_tests.canaries import told


def test_a_log_that_tells_a_key_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    log = folder / "server.log"
    log.write_text("POST /v1/files with the key sk-local-... was refused")
    assert told(folder) == []
    log.write_text(f"POST /v1/files with {'sk-local-' + secrets.token_urlsafe(32)}")
    assert told(folder) == [f"{log}: sk-local-{log.read_text()[-43:-40]}..."]
    log.unlink()
