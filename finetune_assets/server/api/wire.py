"""What requests and answers have in common: OpenAI's error envelope, its lists, and bodies without unknown keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import iscoroutinefunction
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from openai.types.shared import ErrorObject
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from finetune_assets.server.api.body_shape import BodyShapeError, limits_of, parse
from finetune_assets.server.database.connection import AnyRow, Rows
from finetune_assets.server.database.usage import Account, QuotaError
from finetune_assets.server.shortage import Shortage, telling_of_shortages

Item = TypeVar("Item")
ASKER = "finetune_assets.asker"
"""Key of the account of whoever asks in the ASGI scope."""
_SHORT_PAGE = 100
_SHORT_BODY = 16 << 10
_LONGEST_STRING = 4096
"""Characters of a string that has no limit of its own."""
MAX_METADATA_PAIRS = 16
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=MAX_METADATA_PAIRS),
]
"""What clients attach to objects for themselves."""


class ApiError(HTTPException):
    """A request is refused. `param` names the parameter at fault, `code` is for programs, both where there is one."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.body = ErrorObject(message=message, type=kind, param=param, code=code)
        super().__init__(status, message, headers)

    def content(self) -> dict[str, Any]:
        """Return the error in its envelope."""
        return {"error": self.body.model_dump(exclude_unset=True)}

    def response(self) -> JSONResponse:
        """Make the HTTP answer."""
        return JSONResponse(self.content(), self.status_code, self.headers)


def quota_refusal(error: QuotaError) -> ApiError:
    """Word a quota that is used up; only tokens come back by themselves, so that it helps to try again."""
    seconds = error.seconds
    headers = {"x-should-retry": "false"} if seconds is None else {"retry-after": str(seconds)}
    code = "insufficient_quota" if seconds is None else "rate_limit_exceeded"
    return ApiError(429, str(error), code=code, kind=error.what, headers=headers)


def shortage_refusal(lack: Shortage) -> ApiError:
    """Word a shortage of the machine. It may pass by itself: OpenAI's clients ask again after the time that is said."""
    headers = {"retry-after": str(lack.retry_after)}
    return ApiError(503, f"{lack.words}. {lack.remedy}.", code=lack.code, kind="server_error", headers=headers)


class RequestBody(BaseModel):
    """A JSON body or a part of one: no unknown key, no silent conversion, no string without a limit."""

    # Docstrings of fields are what the description of the API says of them.
    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True,
        str_max_length=_LONGEST_STRING,
    )  # fmt: skip


async def _asker(request: Request) -> Account:  # not async, it would be called in a thread
    return request.scope[ASKER]


Asker = Annotated[Account, Depends(_asker)]
"""Parameter of an endpoint that does something for whoever asks."""


class ErrorAnswer(BaseModel):
    """What every refused request is answered with."""

    error: ErrorObject


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    object: Literal["list"]
    data: list[Item]
    has_more: bool


class NamedPage(Page[Item], Generic[Item]):
    """One page of a list that names its ends."""

    first_id: str | None
    last_id: str | None


class WireRequest(Request):
    """Reads JSON strictly and within limits; long bodies in a thread, as others want to be answered meanwhile."""

    async def body(self) -> bytes:
        """Put the body together. Python lets other threads go on meanwhile where that is much."""
        if not hasattr(self, "_body"):
            chunks = [chunk async for chunk in self.stream()]
            is_short = sum(map(len, chunks)) <= _SHORT_BODY
            self._body = b"".join(chunks) if is_short else await run_in_threadpool(b"".join, chunks)
        return self._body

    async def json(self) -> Any:
        """Parse the body.

        Raises:
            json.JSONDecodeError: it is not JSON in UTF-8.
            ApiError: it holds more than its route takes.
        """
        body, limits = await self.body(), limits_of(self.scope["path"])
        try:
            if len(body) <= _SHORT_BODY:
                return parse(body, limits)
            return await run_in_threadpool(parse, body, limits)
        except BodyShapeError as error:
            raise ApiError(400, str(error), code=error.code) from None


class WireRoute(APIRoute):
    """Sends exactly the fields an answer was built with: an explicit null is sent, an omitted field is not."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        # The first line of a docstring heads the endpoint in the description of the API.
        summary = (endpoint.__doc__ or endpoint.__name__).strip().splitlines()[0]
        options = {**kwargs, "summary": summary, "response_model_exclude_unset": True}
        super().__init__(path, _answering(endpoint), **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the endpoint a `WireRequest`."""
        handle = super().get_route_handler()

        async def handle_wire_request(request: Request) -> Response:
            with telling_of_shortages():
                # Also a form that there was no room for, which FastAPI calls a bad one.
                return await handle(WireRequest(request.scope, request.receive))

        return handle_wire_request


def _answering(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Let an endpoint's object be sent as it is: it was validated when it was built, and FastAPI would do so again."""
    if iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def answer_later(*args: Any, **kwargs: Any) -> Any:
            return _answer(await endpoint(*args, **kwargs))

        return answer_later

    @wraps(endpoint)
    def answer(*args: Any, **kwargs: Any) -> Any:
        return _answer(endpoint(*args, **kwargs))

    return answer


def _answer(value: Any) -> Any:
    if not isinstance(value, BaseModel):
        return value
    # No warnings: OpenAI sends some values, "paused" for example, that its own types do not know.
    return Response(
        value.model_dump_json(by_alias=True, exclude_unset=True, warnings=False), media_type="application/json"
    )


async def read_page(limit: int, read: Callable[[], BaseModel]) -> Any:
    """Read and word a page of at most `limit` items: a short one here, as handing it to a thread would take longer."""
    return read() if limit <= _SHORT_PAGE else await run_in_threadpool(lambda: _answer(read()))


def make_page(rows: Rows[AnyRow], as_item: Callable[[AnyRow], Item]) -> Page[Item]:
    """Put a page of rows into its answer."""
    return Page(object="list", data=[as_item(row) for row in rows.items], has_more=rows.has_more)
