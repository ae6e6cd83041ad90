"""What requests and answers have in common: OpenAI's error envelope, its lists, and bodies without unknown keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

import orjson
from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from openai.types.shared import ErrorObject
from pydantic import BaseModel, ConfigDict

from finetune_assets.server.database.connection import AnyRow, Rows

Item = TypeVar("Item")


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
    ) -> None:
        self.body = ErrorObject(message=message, type=kind, param=param, code=code)
        super().__init__(status, message)

    def response(self) -> JSONResponse:
        """Make the HTTP answer."""
        return JSONResponse({"error": self.body.model_dump(exclude_unset=True)}, self.status_code)


class RequestBody(BaseModel):
    """A JSON body or a part of one: no unknown key, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


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
    """Reads JSON strictly: Python's own parser accepts lone surrogates, which can be neither stored nor sent back."""

    async def json(self) -> Any:
        """Parse the body.

        Raises:
            json.JSONDecodeError: it is not JSON in UTF-8.
        """
        return orjson.loads(await self.body())


class WireRoute(APIRoute):
    """Sends exactly the fields an answer was built with: an explicit null is sent, an omitted field is not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "response_model_exclude_unset": True})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Hand the endpoint a `WireRequest`."""
        handle = super().get_route_handler()

        async def handle_wire_request(request: Request) -> Response:
            return await handle(WireRequest(request.scope, request.receive))

        return handle_wire_request


def make_page(rows: Rows[AnyRow], as_item: Callable[[AnyRow], Item]) -> Page[Item]:
    """Put a page of rows into its answer."""
    return Page(object="list", data=[as_item(row) for row in rows.items], has_more=rows.has_more)
