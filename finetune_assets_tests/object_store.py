"""An object store that speaks S3 over HTTP, in this process, for what has to lie beyond one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BUCKET = "s3://cells"


@contextmanager
def object_store(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve an empty bucket, to which everything that reads `s3://` is led; give its URL."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    import fsspec

    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # Those that are open speak to another server.
    type(fsspec.filesystem("s3")).clear_instance_cache()
    try:
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield BUCKET
    finally:
        type(fsspec.filesystem("s3")).clear_instance_cache()
        server.stop()


def upload(folder: Path, url: str) -> None:
    """Copy a folder into the store."""
    import fsspec

    fsspec.filesystem("s3").put(f"{folder}{os.sep}", f"{url}/", recursive=True)
