"""An object store that speaks S3 over HTTP, in this process, for what has to lie beyond one machine.

It can be one that often fails: a share of its answers is "slow down", late, or breaks off in the middle.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BUCKET = "s3://cells"


class Failing:
    """A WSGI application in front of another, that lets this share of the calls fail once it is `on`."""

    def __init__(self, app: Any, share: float) -> None:
        self._app, self._share = app, share
        self._random = random.Random(7)
        self._lock = threading.Lock()
        self.on = False
        self.failed = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            fails = self.on and self._random.random() < self._share
            how = self._random.choice(["refused", "refused after it was done", "late", "cut short"])
            self.failed += fails
        if not fails:
            return self._app(environ, start_response)
        if how == "late":
            time.sleep(0.3)
            return self._app(environ, start_response)
        if how == "refused":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _slow_down(start_response)
        if how == "cut short":
            body = b"".join(self._app(environ, start_response))
            return [body[: len(body) // 2]]
        for _ in self._app(environ, lambda *_: None):
            pass
        return _slow_down(start_response)


def _slow_down(start_response: Any) -> list[bytes]:
    start_response("503 Slow Down", [("Content-Type", "application/xml")])
    return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]


@contextmanager
def object_store(patch: pytest.MonkeyPatch, failing: list[Failing] | None = None, share: float = 0.2) -> Iterator[str]:
    """Serve an empty bucket, to which everything that reads `s3://` is led; give its URL.

    Into `failing` is put what makes a `share` of its calls fail.
    """
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    import fsspec
    import requests
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = Failing(DomainDispatcherApplication(create_backend_app), share)
    if failing is not None:
        failing.append(app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # Those that are open speak to another server.
    type(fsspec.filesystem("s3")).clear_instance_cache()
    # All servers of a process are views of one store, which may hold what an earlier one was given.
    requests.post(f"http://127.0.0.1:{server.port}/moto-api/reset", timeout=10).raise_for_status()
    try:
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield BUCKET
    finally:
        type(fsspec.filesystem("s3")).clear_instance_cache()
        server.shutdown()
        thread.join()
        server.server_close()


def upload(folder: Path, url: str) -> None:
    """Copy a folder into the store."""
    import fsspec

    fsspec.filesystem("s3").put(f"{folder}{os.sep}", f"{url}/", recursive=True)
