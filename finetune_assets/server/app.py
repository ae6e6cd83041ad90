"""The server as a whole: the ASGI app over a home, and the process that serves it on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from finetune_assets import __version__
from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import base_models, chat, error_answers, files, fine_tuning, models
from finetune_assets.server.gate import Gate
from finetune_assets.server.home import api_key, locked
from finetune_assets.server.services import Services
from finetune_assets.server.supervisor import threads_per_process

_STOP_SECONDS = 5


class AddressInUseError(FinetuneAssetsError, OSError):
    """The server cannot listen where it was told to."""


def make_app(home: Path) -> FastAPI:
    """Make the app that serves `home`; its queue runs while the app does. One app per home at a time (see `serve`)."""
    services = Services(home)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services.start()
        yield
        services.stop()

    app = FastAPI(title="finetune_assets", version=__version__, lifespan=lifespan, redirect_slashes=False)
    app.state.services = services
    app.add_middleware(Gate, key=api_key(home).value)
    error_answers.install(app)
    for part in (files, fine_tuning, models, chat):
        app.include_router(part.router)
    app.get("/health")(_health)
    return app


def serve(home: Path, host: str = "127.0.0.1", port: int = 8321) -> None:
    """Serve `home` until SIGINT or SIGTERM; port 0 takes a free one, which the start message tells.

    Raises:
        HomeInUseError: another server runs on this folder.
        DatabaseTooNewError: a later version of this package has used this folder.
        AddressInUseError: the address cannot be listened on.
    """
    # Read when torch is first imported, here and in the workers.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_per_process()))
    home = home.resolve()
    with locked(home), _listen(host, port) as listener:
        app = make_app(home)
        print(_greeting(home, *listener.getsockname()[:2]), flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        # uvicorn stops in good order at Ctrl-C, and then raises what it has just handled.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _health() -> dict[str, str]:
    """Say that the server is there. Needs no key."""
    return {"status": "ok", "version": __version__}


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise AddressInUseError(
            f"cannot listen on {host}:{port} ({error.strerror}); is a server running there already? "
            "Stop it, or choose another port with --port"
        ) from error


def _greeting(home: Path, host: str, port: int) -> str:
    return "\n".join(
        (
            f"Fine-tuning server: http://{host}:{port}/v1  (Ctrl-C stops it)",
            f"API key:            {api_key(home).place}",
            f"Models:             {', '.join(base_models.names(home))}",
            f"More models:        name them in {home / 'models.yaml'}",
        )
    )
