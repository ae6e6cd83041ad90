"""In front of every route: what the page needs and nothing else, no request from other sites, and no request to them.

Gradio brings routes that hand out files, fetch addresses and take uploads. This page needs none of them, so only
those it needs are open, and what a later version of Gradio adds stays shut until it is named here.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = (
    "/review/", "/page/",
    "/login", "/logout", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/assets/", "/static/", "/svelte/",
    "/gradio_api/queue/", "/gradio_api/heartbeat/", "/gradio_api/startup-events", "/gradio_api/info",
)  # fmt: skip
_HEADERS = {
    # The page is Gradio's, which compiles templates and styles in the browser; but it reaches no host besides ours.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Gate:
    """ASGI middleware. Answers 404 to closed routes and 403 to what another site's page sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http" or not _is_open(scope["path"]):
            await PlainTextResponse("There is nothing here.", 404)(scope, receive, send_with_headers)
        elif scope["method"] not in ("GET", "HEAD") and _is_foreign(Headers(scope=scope)):
            await PlainTextResponse("This comes from another site's page.", 403)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def _is_open(path: str) -> bool:
    return path == "/" or path.startswith(OPEN)


def _is_foreign(headers: Headers) -> bool:
    # Gradio's session cookie is sent along by other sites' pages too.
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
