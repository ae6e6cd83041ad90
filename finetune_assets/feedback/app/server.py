"""The feedback app as a whole: Gradio's page, our routes and the gate in one, and the process that serves it."""

from __future__ import annotations

import logging
import os
import secrets
from functools import partial
from http import HTTPStatus
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from gradio.routes import App as GradioApp
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.app.gate import Gate
from finetune_assets.feedback.app.review_api import router
from finetune_assets.feedback.app.shell import CSS, HEAD, THEME, make_page
from finetune_assets.feedback.store import reviewers
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import EventError
from finetune_assets.running import listen

FIRST = "reviewer"
"""Who is made where there is nobody yet."""
_PAGE = Path(__file__).parent / "page"
_log = logging.getLogger(__name__)


def make_app(db: FeedbackDatabase) -> FastAPI:
    """Make the app over a database, which stays open as long as the app runs."""
    # Gradio would tell its makers about this start; the switch is read when a page is made.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

    async def sign_in(name: str, password: str) -> bool:
        return await run_in_threadpool(reviewers.is_password, db, name, password)

    app = FastAPI(title="finetune_assets feedback", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router)
    app.mount("/page", StaticFiles(directory=_PAGE))
    app.add_exception_handler(FinetuneAssetsError, _refuse)
    app.add_middleware(Gate)
    gr.mount_gradio_app(
        app,
        make_page(db),
        "/",
        auth=sign_in,
        footer_links=[],
        run_history=False,
        show_error=False,
        theme=THEME,
        css=CSS,
        head=HEAD,
    )
    sessions = next(route.app for route in app.routes if isinstance(route, Mount) and isinstance(route.app, GradioApp))
    app.state.db, app.state.signed_in = db, partial(_signed_in, sessions)
    return app


def serve(host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve the app over the feedback database until SIGINT or SIGTERM; port 0 takes a free one.

    Where there is no reviewer yet, one is made, and the password printed this once.

    Raises:
        FeedbackDatabaseError: the database cannot be opened.
        AddressInUseError: the address cannot be listened on.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with FeedbackDatabase() as db, listen(host, port) as listener:
        app = make_app(db)
        known = [reviewer.name for reviewer in reviewers.all_reviewers(db)]
        who = f"Reviewers:          {', '.join(known)}" if known else welcome(FIRST, add_reviewer(db, FIRST))
        print(_greeting(host, listener.getsockname()[1], who), flush=True)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
        )
        uvicorn.Server(config).run(sockets=[listener])


def add_reviewer(db: FeedbackDatabase, name: str) -> str:
    """Let somebody review, and return his password, which is kept nowhere."""
    password = secrets.token_urlsafe(12)
    reviewers.add_reviewer(db, name, password)
    return password


def welcome(name: str, password: str) -> str:
    """Return what is said of a new reviewer, once."""
    return f"Reviewer:           {name}\nPassword:           {password}   (shown only now)"


def _signed_in(sessions: GradioApp, request: Request) -> str | None:
    """Name the reviewer of a request, by the session that Gradio's sign-in has made; None where nobody is signed in."""
    return sessions.tokens.get(request.cookies.get(f"access-token-unsecure-{sessions.cookie_id}"))


def _refuse(_request: Request, error: Exception) -> JSONResponse:
    # What the database cannot take now is sent again; what is refused once is refused for good.
    status = HTTPStatus.CONFLICT if isinstance(error, EventError) else HTTPStatus.SERVICE_UNAVAILABLE
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        _log.error("%s", error)
    return JSONResponse({"message": str(error)}, status)


def _greeting(host: str, port: int, who: str) -> str:
    return "\n".join(
        (
            f"Feedback:           http://{host}:{port}  (Ctrl-C stops it)",
            who,
            "More:               finetune-assets feedback add-reviewer NAME",
        )
    )
