"""The feedback app as a whole: pages, routes and the gate in one, and the process that serves it."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from finetune_assets import connections
from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.app import review_api, table_api
from finetune_assets.feedback.app.gate import Gate
from finetune_assets.feedback.app.review_api import RequestError
from finetune_assets.feedback.app.sign_in import SignIn
from finetune_assets.feedback.store import reviewers
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import EventError
from finetune_assets.feedback.store.reviewers import Role
from finetune_assets.running import listen

FIRST = "reviewer"
"""Who is made where there is nobody yet."""
_PAGE = Path(__file__).parent / "page"
_log = logging.getLogger(__name__)


def make_app(db: FeedbackDatabase) -> Starlette:
    """Make the app over a database, which stays open as long as the app runs."""
    sign_in = SignIn(db)

    async def page(request: Request) -> Response:
        return (
            RedirectResponse("/login", 303)
            if await sign_in.who(request) is None
            else FileResponse(_PAGE / "index.html")
        )

    return Starlette(
        routes=[
            Route("/", page),
            Route("/login", sign_in.page, methods=["GET", "POST"]),
            Route("/logout", sign_in.sign_out, methods=["POST"]),
            Mount("/page", StaticFiles(directory=_PAGE)),
            *review_api.routes(db, sign_in),
            *table_api.routes(db, sign_in),
        ],
        middleware=[Middleware(Gate)],
        exception_handlers={RequestError: _refuse, FinetuneAssetsError: _refuse, Exception: _fail},
    )


def serve(host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve the app over the feedback database until SIGINT or SIGTERM; port 0 takes a free one.

    Where there is no reviewer yet, an admin is made, and the password printed this once.

    Raises:
        FeedbackDatabaseError: the database cannot be opened.
        AddressInUseError: the address cannot be listened on.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    connections.want_descriptors()
    with FeedbackDatabase() as db, listen(host, port) as listener:
        app = make_app(db)
        known = [reviewer.name for reviewer in reviewers.all_reviewers(db)]
        who = f"Reviewers:          {', '.join(known)}" if known else welcome(FIRST, add_reviewer(db, FIRST, "admin"))
        print(_greeting(host, listener.getsockname()[1], who), flush=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            http=connections.protocol(),
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        connections.Server(config).run(sockets=[listener])


def add_reviewer(db: FeedbackDatabase, name: str, role: Role = "reviewer") -> str:
    """Let somebody review, and return his password, which is kept nowhere.

    Raises:
        ReviewerError: as `reviewers.add_reviewer`.
    """
    password = secrets.token_urlsafe(12)
    reviewers.add_reviewer(db, name, password, role)
    return password


def welcome(name: str, password: str) -> str:
    """Return what is said of a new reviewer, once."""
    return f"Reviewer:           {name}\nPassword:           {password}   (shown only now)"


async def _refuse(_request: Request, error: Exception) -> JSONResponse:
    # What the database cannot take now is sent again; what is refused once is refused for good.
    if isinstance(error, RequestError):
        return JSONResponse({"message": str(error)}, error.status)
    status = HTTPStatus.CONFLICT if isinstance(error, EventError) else HTTPStatus.SERVICE_UNAVAILABLE
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        _log.error("%s", error)
    return JSONResponse({"message": str(error)}, status)


async def _fail(_request: Request, _error: Exception) -> JSONResponse:
    # Starlette logs it, with its trace.
    return JSONResponse({"message": "The server failed; its log says why."}, HTTPStatus.INTERNAL_SERVER_ERROR)


def _greeting(host: str, port: int, who: str) -> str:
    return "\n".join(
        (
            f"Feedback:           http://{host}:{port}  (Ctrl-C stops it)",
            who,
            "More:               finetune-assets feedback add-reviewer NAME",
        )
    )
