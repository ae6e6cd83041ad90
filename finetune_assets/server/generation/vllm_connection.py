"""What is said to a vLLM over HTTP: adapters by their folders, prompts and answers as token ids."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

from finetune_assets.errors import FinetuneAssetsError

MAX_ADAPTERS = 64
"""That a vLLM knows at once; the one that was not asked for longest is let go of."""
WAIT_SECONDS = 300.0
"""For the next piece of an answer; the first may wait for kernels to be compiled."""
_LONGEST_EVENT = 1_000_000
_TOKEN = "token_id:"  # noqa: S105 - vLLM's word before the id of a token


class VllmAnswerError(FinetuneAssetsError, ConnectionError):
    """A vLLM answered with an error, or in another form than is known of it."""


class AdapterRefusedError(VllmAnswerError):
    """A vLLM does not take an adapter."""


@dataclass(frozen=True, slots=True)
class VllmToken:
    """A token that vLLM chose."""

    id: int
    logprob: float | None
    """Where it was asked for: natural, of the model's own distribution."""
    top: list[tuple[int, float]]
    """The likeliest tokens at this place and their log-probabilities, likeliest first."""


class VllmConnection:
    """To one vLLM, for as long as its process lives; used by one event loop."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(WAIT_SECONDS, connect=3.0),
            limits=httpx2.Limits(max_connections=None),
            trust_env=False,
        )
        self._adapters: OrderedDict[str, None] = OrderedDict()
        self._changing = asyncio.Lock()

    async def register(self, key: str, folder: Path) -> str:
        """Return what vLLM calls an adapter, which it is told of first where it has to be.

        Args:
            key: changes when the adapter's files do.
            folder: as PEFT writes it.

        Raises:
            AdapterRefusedError: vLLM does not take it.
        """
        name = f"adapter-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
        async with self._changing:
            if name not in self._adapters:
                told = {"lora_name": name, "lora_path": str(folder.resolve())}
                answer = await self._client.post("/v1/load_lora_adapter", json=told)
                if answer.status_code != 200:
                    raise AdapterRefusedError(f"vLLM does not take its adapter (status {answer.status_code})")
            self._adapters[name] = None
            self._adapters.move_to_end(name)
            while len(self._adapters) > MAX_ADAPTERS:
                oldest, _ = self._adapters.popitem(last=False)
                await self._client.post("/v1/unload_lora_adapter", json={"lora_name": oldest})
        return name

    async def tokens(self, asked: dict[str, Any]) -> AsyncIterator[VllmToken | int]:
        """Complete a prompt of token ids: the tokens as they come; how many of the prompt's were cached, as a number.

        Args:
            asked: body of `/v1/completions`, of one answer.

        Raises:
            VllmAnswerError: it is refused, or answered in an unknown form.
            httpx2.HTTPError: the connection breaks, or nothing comes.
        """
        body = asked | {
            "stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }  # fmt: skip
        async with self._client.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                raise VllmAnswerError(f"vLLM answered with the status {response.status_code}")
            async for event in _events(response.aiter_bytes()):
                try:
                    found = _read(event)
                except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
                    raise VllmAnswerError("vLLM's answer has no token ids: 0.10.2 or later is needed") from error
                for piece in found:
                    yield piece

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events, each of one line."""
    held = b""
    async for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        if len(held) > _LONGEST_EVENT:
            raise VllmAnswerError("vLLM's answer has a line without end")
        for line in lines:
            data = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data != b"[DONE]":
                yield data


def _read(event: bytes) -> Sequence[VllmToken | int]:
    said = orjson.loads(event)
    if "error" in said:
        raise VllmAnswerError("vLLM broke its answer off with an error")
    if not said["choices"]:
        return [((said["usage"] or {}).get("prompt_tokens_details") or {}).get("cached_tokens") or 0]
    choice = said["choices"][0]
    ids: list[int] = choice["token_ids"]
    likely = choice["logprobs"]
    if likely is None:
        return [VllmToken(int(token), None, []) for token in ids]
    tops = likely.get("top_logprobs") or [{} for _ in ids]
    return [
        VllmToken(int(token), float(logprob), _ranked(top or {}))
        for token, logprob, top in zip(ids, likely["token_logprobs"], tops, strict=True)
    ]


def _ranked(top: dict[str, float]) -> list[tuple[int, float]]:
    found = [(int(token.removeprefix(_TOKEN)), logprob) for token, logprob in top.items()]
    return sorted(found, key=lambda one: -one[1])
