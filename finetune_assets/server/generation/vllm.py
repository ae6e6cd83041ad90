"""Hand-off to a vLLM server: it answers for the base models it serves, and for our adapters of them.

vLLM is started by its owner, with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True. Adapters are registered
with it when they are first asked for, under names that change with their weights, and let go of when they have not
been asked for lately or are deleted. Our own engine answers whatever vLLM cannot: models it does not serve, models with
a trained projector (which vLLM does not know), images by https URL (which vLLM would fetch unchecked), tools and
reasoning (whose form vLLM must be told when it is started), texts that spell a control token (which vLLM would take for
one), and everything while vLLM is away.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pydantic
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from finetune_assets.errors import BaseModelError, FinetuneAssetsError
from finetune_assets.server import checksums
from finetune_assets.server.api.chat_answer import usage
from finetune_assets.server.api.chat_messages import plain_messages
from finetune_assets.server.api.chat_request import ChatBody
from finetune_assets.server.api.wire import ApiError
from finetune_assets.server.catalog import FoundModel
from finetune_assets.server.model.front import spells_controls

MAX_ADAPTERS = 16
REFRESH_SECONDS = 30.0
_WEIGHTS = "adapter_model.safetensors"
_FORWARDED = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "seed", "n", "max_completion_tokens",
    "max_tokens", "stop", "response_format", "logprobs", "top_logprobs",
)  # fmt: skip

logger = logging.getLogger(__name__)


class VllmAwayError(FinetuneAssetsError, ConnectionError):
    """The vLLM server does not answer, or not as vLLM does."""


class Vllm:
    """A vLLM server, as one event loop speaks to it. `key` is for a server that was started with --api-key."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(10.0, connect=3.0, read=600.0)
        self._client = httpx2.AsyncClient(base_url=url.rstrip("/"), headers=headers, timeout=timeout, trust_env=False)
        self._url = url
        self._served: dict[str, str] = {}
        """What vLLM calls the base models, by their ids and paths."""
        self._looked_at = -REFRESH_SECONDS
        self._adapters: OrderedDict[str, Path] = OrderedDict()
        self._away = False
        self._changing = asyncio.Lock()

    async def complete(self, body: ChatBody, model: FoundModel) -> ChatCompletion | None:
        """Answer, or None where our own engine must.

        Raises:
            ApiError: vLLM refuses the request, in its words.
        """
        async with self._asked(body, model, stream=False) as response:
            if response is None:
                return None
            answer = orjson.loads(await response.aread())
        try:
            return ChatCompletion.model_validate(_in_our_words(answer, body.model))
        except pydantic.ValidationError as error:
            raise ApiError(502, "The vLLM server answered in an unknown form.", kind="server_error") from error

    async def stream(self, body: ChatBody, model: FoundModel) -> AsyncIterator[ChatCompletionChunk] | None:
        """Answer piece by piece, or None where our own engine must.

        Raises:
            ApiError: as `complete`.
        """
        asked = self._asked(body, model, stream=True)
        response = await asked.__aenter__()
        if response is None:
            await asked.__aexit__(None, None, None)
            return None

        async def chunks() -> AsyncIterator[ChatCompletionChunk]:
            try:
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if line.startswith("data:") and data != "[DONE]":
                        yield _as_chunk(orjson.loads(data), body.model)
            except httpx2.HTTPError as error:
                raise ApiError(502, "The vLLM server broke off its answer.", kind="server_error") from error
            finally:
                await asked.__aexit__(None, None, None)

        return chunks()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _asked(self, body: ChatBody, model: FoundModel, *, stream: bool) -> AsyncIterator[httpx2.Response | None]:
        response = None
        try:
            if (name := await self._name(body, model)) is not None:
                response = await self._post(body, name, stream=stream)
                if response.status_code == 404 and model.adapter is not None:
                    # vLLM was started again and has forgotten the adapters.
                    await response.aclose()
                    self._adapters.clear()
                    response = await self._post(body, await self._register(model.adapter), stream=stream)
        except (httpx2.HTTPError, VllmAwayError) as error:
            if not self._away:
                logger.warning("vLLM at %s is of no use (%s); our own engine answers instead", self._url, error)
            self._away = True
            self._looked_at = time.monotonic()
        try:
            if response is not None and response.status_code != 200:
                raise _refusal(response.status_code, await response.aread())
            yield response
        finally:
            if response is not None:
                await response.aclose()

    async def _post(self, body: ChatBody, name: str, *, stream: bool) -> httpx2.Response:
        payload = body.model_dump(include=set(_FORWARDED), exclude_none=True, by_alias=True)
        payload |= {"model": name, "messages": plain_messages(body.messages), "stream": stream}
        if stream and body.stream_options and body.stream_options.include_usage:
            payload["stream_options"] = {"include_usage": True}
        return await self._client.send(
            self._client.build_request("POST", "/v1/chat/completions", json=payload), stream=True
        )

    async def _name(self, body: ChatBody, model: FoundModel) -> str | None:
        """Say under which name vLLM answers as the model, which it may have to be told first; None if it cannot."""
        if time.monotonic() - self._looked_at > REFRESH_SECONDS:
            await self._refresh()
        elif self._away:
            return None
        base = self._served.get(model.base.path) or self._served.get(model.base.name)
        if base is None or _has_remote_images(body) or _asks_for_more(body, model):
            return None
        if await asyncio.to_thread(spells_controls, model.base, plain_messages(body.messages)):
            return None
        if model.adapter is None:
            return base
        if (model.adapter / "projector.safetensors").exists() or not (model.adapter / _WEIGHTS).exists():
            return None
        try:
            await asyncio.to_thread(checksums.check, model.adapter)
        except BaseModelError:
            return None  # this server's own engine refuses it by name
        return await self._register(model.adapter)

    async def _refresh(self) -> None:
        response = await self._client.get("/v1/models")
        if response.status_code != 200:
            raise VllmAwayError(f"GET /v1/models was answered with the status {response.status_code}")
        try:
            models = [Model.model_validate(model) for model in orjson.loads(response.content)["data"]]
        except (orjson.JSONDecodeError, KeyError, TypeError, pydantic.ValidationError) as error:
            raise VllmAwayError("GET /v1/models was not answered with a list of models") from error
        bases = [model for model in models if not (model.model_extra or {}).get("parent")]
        self._served = {str((model.model_extra or {}).get("root")): model.id for model in bases}
        self._served |= {model.id: model.id for model in bases}
        self._looked_at, self._away = time.monotonic(), False
        async with self._changing:
            for name in [name for name, folder in self._adapters.items() if not folder.exists()]:
                await self._unload(name)

    async def _register(self, adapter: Path) -> str:
        stamp = (adapter / _WEIGHTS).stat().st_mtime_ns
        name = f"adapter-{hashlib.sha256(f'{adapter} {stamp}'.encode()).hexdigest()[:24]}"
        async with self._changing:
            if name not in self._adapters:
                answer = await self._client.post(
                    "/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(adapter.resolve())}
                )
                if answer.status_code != 200 and "already" not in answer.text:
                    raise VllmAwayError(f"it does not take adapters: status {answer.status_code}")
            self._adapters[name] = adapter
            self._adapters.move_to_end(name)
            if len(self._adapters) > MAX_ADAPTERS:
                await self._unload(next(iter(self._adapters)))
        return name

    async def _unload(self, name: str) -> None:
        del self._adapters[name]
        await self._client.post("/v1/unload_lora_adapter", json={"lora_name": name})


def key_from_environment() -> str | None:
    """Return the key of the vLLM server: VLLM_API_KEY, which vLLM itself reads, too."""
    return os.environ.get("VLLM_API_KEY") or None


def _asks_for_more(body: ChatBody, model: FoundModel) -> bool:
    """Whether an answer may be more than something said, or has been before."""
    told = any(message.role == "tool" or getattr(message, "tool_calls", None) for message in body.messages)
    return bool(body.tools or told or body.reasoning_effort not in (None, "none") or model.base.reasoning)


def _has_remote_images(body: ChatBody) -> bool:
    parts = [
        part
        for message in plain_messages(body.messages)
        if isinstance(message["content"], list)
        for part in message["content"]
    ]
    return any(part["type"] == "image_url" and not part["image_url"]["url"].startswith("data:") for part in parts)


def _in_our_words(answer: dict[str, Any], model: str) -> dict[str, Any]:
    used = answer.get("usage")
    if used:
        cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        counts = usage(used["prompt_tokens"], used.get("completion_tokens") or 0, cached)
        answer["usage"] = counts.model_dump(exclude_unset=True)
    for choice in answer.get("choices", []):
        choice.setdefault("logprobs", None)
        if "message" in choice:
            choice["message"] = {"role": "assistant", "content": choice["message"].get("content"), "refusal": None}
    return answer | {"model": model}


def _as_chunk(data: dict[str, Any], model: str) -> ChatCompletionChunk:
    if "error" in data:
        raise _refusal(502, orjson.dumps(data))
    return ChatCompletionChunk.model_validate(_in_our_words(data, model))


def _refusal(status: int, body: bytes) -> ApiError:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = {}
    error = found.get("error", found) if isinstance(found, dict) else {}
    message = str(error.get("message") or f"The vLLM server answered with the status {status}.")
    if status >= 500:
        return ApiError(502, message, kind="server_error")
    code, param = error.get("code"), error.get("param")
    return ApiError(status, message, param=param, code=code if isinstance(code, str) else None)
