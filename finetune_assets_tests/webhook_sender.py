"""Webhooks as a provider posts them, and the real receiver in a process of its own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

from finetune_assets_tests.patience import PATIENCE_S

SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes, a key").decode()


def job_event(job_id: str, outcome: str = "succeeded") -> bytes:
    """The body of a webhook about a job."""
    event = {"object": "event", "id": "evt_1", "type": f"fine_tuning.job.{outcome}", "created_at": 1_800_000_000}
    return json.dumps(event | {"data": {"id": job_id}}).encode()


def signed(body: bytes, delivery: str = "wh_1", age: int = 0, secret: str = SECRET) -> dict[str, str]:
    """The headers of a webhook, signed as "Standard Webhooks" says: HMAC-SHA256 of id, time and body."""
    moment = str(int(time.time()) - age)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{delivery}.{moment}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": delivery, "webhook-timestamp": moment, "webhook-signature": signature}


class ReceiverProcess:
    """`finetune-assets webhooks` on a free port, for the Dagster instance at `home`."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "finetune_assets.cli", "webhooks", "--port", "0"],
            env=os.environ | {"DAGSTER_HOME": str(home), "OPENAI_WEBHOOK_SECRET": SECRET},
            stdout=subprocess.PIPE,
            stderr=(home / "receiver.stderr").open("wb"),
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found, (home / "receiver.stderr").read_text()
        self.url = found[0]

    def post(self, body: bytes, headers: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        """Post a webhook, signed unless it has other headers."""
        return httpx2.post(self.url, content=body, headers=signed(body) if headers is None else headers, **options)

    def __enter__(self) -> ReceiverProcess:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE_S)
