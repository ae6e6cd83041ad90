"""Makes every error answer in OpenAI's envelope, those of the framework included: no `detail` bodies, no 422."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from finetune_assets.server.api.gate import REQUEST_ID
from finetune_assets.server.api.request_errors import explain
from finetune_assets.server.api.wire import ApiError, quota_refusal, shortage_refusal
from finetune_assets.server.database.connection import UnknownCursorError, UnstorableError
from finetune_assets.server.database.files import DamagedFileError
from finetune_assets.server.database.usage import QuotaError
from finetune_assets.server.shortage import Shortage, ShortageError, shortage_of

logger = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Register the handlers."""
    app.exception_handler(ApiError)(_refused)
    app.exception_handler(HTTPException)(_not_routed)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(UnknownCursorError)(_unknown_cursor)
    app.exception_handler(QuotaError)(_used_up)
    app.exception_handler(UnstorableError)(_not_stored)
    app.exception_handler(ShortageError)(_lacking)
    app.exception_handler(DamagedFileError)(_lasting)
    app.exception_handler(Exception)(_internal)


async def _refused(_request: Request, error: ApiError) -> JSONResponse:
    return error.response()


async def _not_routed(request: Request, error: HTTPException) -> JSONResponse:
    target = f"{request.method} {request.url.path}"
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return ApiError(404, f"Invalid URL ({target})").response()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            message = f"Not allowed to {request.method} on {request.url.path}"
            return ApiError(405, message, code="method_not_supported").response()
        case _:
            return ApiError(error.status_code, str(error.detail)).response()


async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    if isinstance(error.body, bytes) and error.body:  # it was not even looked whether it is JSON
        sent = request.headers.get("content-type", "")
        message = f"Unsupported content type: '{sent[:100]}'. Send the body with 'Content-Type: application/json'."
        return ApiError(415, message, code="unsupported_content_type").response()
    problem = explain(error.errors(), error.body)
    return ApiError(400, problem.message, param=problem.param, code=problem.code).response()


async def _unknown_cursor(_request: Request, error: UnknownCursorError) -> JSONResponse:
    return ApiError(400, f"Invalid 'after': {error}.", param="after", code="invalid_value").response()


async def _used_up(_request: Request, error: QuotaError) -> JSONResponse:
    return quota_refusal(error).response()


async def _not_stored(_request: Request, error: UnstorableError) -> JSONResponse:
    return ApiError(400, f"The request has {error}.", code="invalid_value").response()


async def _lacking(request: Request, error: ShortageError) -> JSONResponse:
    return _refused_for(error.lack, request, error)


def _refused_for(lack: Shortage, request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s is refused: %s", request.method, request.url.path, error.__cause__ or error)
    return shortage_refusal(lack).response()


async def _lasting(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed: %s", request.method, request.url.path, error)
    response = ApiError(500, str(error), kind="server_error").response()
    # OpenAI's clients repeat a request that met a 500; damage does not go away by that.
    response.headers["x-should-retry"] = "false"
    return response


async def _internal(request: Request, error: Exception) -> JSONResponse:
    if lack := shortage_of(error):
        response = _refused_for(lack, request, error)
    else:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        message = "The server had an error while processing your request. Its log says more."
        response = ApiError(500, message, kind="server_error").response()
    # Starlette answers unexpected errors outside all middleware, so the gate cannot add this header.
    response.headers["x-request-id"] = request.scope[REQUEST_ID]
    # The server closes the connection after an error that nobody caught; a client that is not told sends on.
    response.headers["connection"] = "close"
    return response
