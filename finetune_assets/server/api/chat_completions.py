"""Completions: from a request to its answer, whole or as a stream, for the endpoint and for batches.

The engine of this server answers, or a vLLM server where one has the model (see `vllm`). Whoever waits for an
answer may stop waiting at any time: cancelling the task, or closing the stream, ends the work behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from finetune_assets.errors import BaseModelError, UnfitModelError
from finetune_assets.server import catalog
from finetune_assets.server.api.chat_answer import Chunks, as_completion, fingerprint
from finetune_assets.server.api.chat_messages import plain_messages
from finetune_assets.server.api.chat_request import ChatBody, check, json_schema_of
from finetune_assets.server.api.metrics import Metrics
from finetune_assets.server.api.stored_completions import asked_of, refusing_too_much
from finetune_assets.server.api.tool_request import calling_of, declared_tools
from finetune_assets.server.api.wire import ApiError, quota_refusal
from finetune_assets.server.catalog import FoundModel
from finetune_assets.server.database.usage import Account, QuotaError
from finetune_assets.server.generation.vllm import Vllm
from finetune_assets.server.services import Services

if TYPE_CHECKING:
    from finetune_assets.server.generation.engine import Engine
    from finetune_assets.server.generation.requests import Delta, Generation, GenerationRequest

Made = TypeVar("Made")


class Completions:
    """Answers checked and unchecked requests alike; every method belongs to the server's event loop.

    The methods raise `ApiError` for what is wrong with a request, also when the server stops before the answer.
    """

    def __init__(self, served: Services, metrics: Metrics, vllm: Vllm | None = None) -> None:
        self._served = served
        self._metrics = metrics
        self._vllm = vllm
        self._engine: Engine | None = None
        self._open: set[Future[Any]] = set()

    async def complete(self, body: ChatBody, asker: Account) -> ChatCompletion:
        """Answer in one piece."""
        model = await asyncio.to_thread(self._checked, body, asker)
        if self._vllm is not None and (handed_over := await self._vllm.complete(body, model)):
            await self.count(handed_over.usage, asker)
            await self._keep(body, handed_over, asker)
            return handed_over
        future = await self._submit(body, model, asker)
        try:
            generation = await self._result(future, body.model)
        finally:
            self._close(future)
        completion = as_completion(body, generation, fingerprint(model.base.path))
        await self.count(completion.usage, asker)
        await self._keep(body, completion, asker)
        return completion

    async def texts(self, requests: list[GenerationRequest], model: str, asker: Account) -> list[Generation]:
        """Go on with several texts at once."""
        engine = await self._started_engine()
        futures = [self._opened(engine.submit(request)) for request in requests]
        try:
            generations = [await self._result(future, model) for future in futures]
        finally:
            for future in futures:
                self._close(future)
        for generation in generations:
            self._metrics.count_generation(generation)
        await self._spend(generations, asker)
        return generations

    async def find(self, name: str, asker: Account) -> FoundModel:
        """Look a model up for who has tokens left."""
        return await asyncio.to_thread(self.admitted, name, asker)

    async def stream(self, body: ChatBody, asker: Account) -> AsyncGenerator[ChatCompletionChunk]:
        """Answer piece by piece. What is wrong with the request is raised before the first chunk."""
        model = await asyncio.to_thread(self._checked, body, asker)
        if self._vllm is not None and not body.store and (handed_over := await self._vllm.stream(body, model)):
            async for chunk in handed_over:
                await self.count(chunk.usage, asker)
                yield chunk
            return
        queue: asyncio.Queue[Delta | None] = asyncio.Queue()
        future = await self._submit(body, model, asker, queue)
        chunks = Chunks(body, fingerprint(model.base.path))
        started = False
        try:
            while (delta := await queue.get()) is not None:
                for chunk in ([] if started else chunks.opening()) + chunks.piece(delta):
                    yield chunk
                started = True
            generation = await self._result(future, body.model)
        finally:
            self._close(future)
        self._metrics.count_generation(generation)
        await self._spend([generation], asker)
        whole = as_completion(body, generation, fingerprint(model.base.path))
        await self._keep(body, whole.model_copy(update=chunks.shared), asker)
        for chunk in chunks.closing(generation):
            yield chunk

    async def result_of(self, begin: Callable[[Engine], Future[Made]], model: str) -> Made:
        """Have the engine do something else for a request, and end that too when nobody waits any more."""
        future = self._opened(begin(await self._started_engine()))
        try:
            return await self._result(future, model)
        finally:
            self._close(future)

    def stop(self) -> None:
        """End everything that is still being answered."""
        for future in list(self._open):
            future.cancel()

    async def count(self, usage: CompletionUsage | None, asker: Account) -> None:
        """Count the tokens of an answer, also among those of whoever asked."""
        self._metrics.count_usage(usage)
        if usage is not None and asker.tokens is not None:
            await asyncio.to_thread(self._served.usage.spend, asker, usage.total_tokens)

    async def _spend(self, generations: list[Generation], asker: Account) -> None:
        if asker.tokens is not None:
            used = sum(generation.prompt_tokens + generation.completion_tokens for generation in generations)
            await asyncio.to_thread(self._served.usage.spend, asker, used)

    async def _keep(self, body: ChatBody, completion: ChatCompletion, asker: Account) -> None:
        """Keep an answer that the client wants kept, before he has it."""
        if body.store:
            told = completion.model_dump(mode="json", exclude_unset=True)
            with refusing_too_much():
                await asyncio.to_thread(self._served.completions.add, asker, asked_of(body), told, body.metadata)

    def _checked(self, body: ChatBody, asker: Account) -> FoundModel:
        check(body)
        if body.store:
            with refusing_too_much():
                self._served.completions.check(asker, len(orjson.dumps(asked_of(body))))
        return self.admitted(body.model, asker)

    def admitted(self, name: str, asker: Account) -> FoundModel:
        """Look a model up for whoever may still ask; not for the event loop.

        Raises:
            ApiError: there is no such model, or the asker has used all tokens of the day.
        """
        if asker.tokens is not None:
            try:
                self._served.usage.check(asker, "tokens")
            except QuotaError as error:
                raise quota_refusal(error) from None
        return self._find(name)

    def _find(self, name: str) -> FoundModel:
        try:
            return catalog.find(self._served, name)
        except BaseModelError as error:
            message = f"The model `{name[:200]}` does not exist or you do not have access to it: {error}"
            raise ApiError(404, message, param="model", code="model_not_found") from None

    async def _submit(
        self, body: ChatBody, model: FoundModel, asker: Account, queue: asyncio.Queue[Delta | None] | None = None
    ) -> Future[Generation]:
        engine = await self._started_engine()
        loop = asyncio.get_running_loop()

        def tell(delta: Delta | None) -> None:
            # The engine's thread may outlive the event loop of a server that stops.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, delta)  # pyright: ignore[reportOptionalMemberAccess]

        request = _generation_request(body, model, asker)
        if queue is None:
            future = engine.submit(request)
        else:
            future = engine.submit(request, tell)
            future.add_done_callback(lambda _: tell(None))
        return self._opened(future)

    def _opened(self, future: Future[Made]) -> Future[Made]:
        self._open.add(future)
        self._metrics.completions_in_flight.inc()
        return future

    async def _started_engine(self) -> Engine:
        if self._engine is None:
            engine = await asyncio.to_thread(self._served.engine)
            if self._engine is None:  # else another request was faster
                self._engine = engine
                self._metrics.watch(
                    "engine_work", "Requests that wait to be read, and answers in the making.",
                    lambda: {"waiting": engine.waiting, "rows": engine.rows},
                )  # fmt: skip
                self._metrics.watch("base_models_in_memory", "Base models that are loaded.", engine.in_memory)
        return self._engine

    async def _result(self, future: Future[Made], model: str) -> Made:
        from finetune_assets.server.model.chat_encoding import PromptError

        answer = asyncio.wrap_future(future)
        await asyncio.wait([answer])
        if answer.cancelled():
            raise ApiError(503, "The server is stopping. Send the request again later.", kind="server_error")
        match answer.exception():
            case None:
                return answer.result()
            case PromptError() as error:
                raise ApiError(400, str(error), param=error.param, code=error.code) from None
            case UnfitModelError() as error:
                raise ApiError(400, str(error), param="model", code="model_not_usable") from None
            case BaseModelError() as error:
                await asyncio.to_thread(self._find, model)  # it may have been deleted meanwhile
                told = str(error).replace(str(self._served.home), "the server's folder")
                raise ApiError(500, f"The model `{model}` cannot be used: {told}", kind="server_error") from error
            case error:
                raise error

    def _close(self, future: Future[Any]) -> None:
        future.cancel()
        self._open.discard(future)
        self._metrics.completions_in_flight.dec()


def _effort(body: ChatBody, model: FoundModel) -> str | None:
    """Return how much is to be thought first. A fine-tuned model answers as it was taught: at once, unless asked."""
    if body.reasoning_effort is None:
        return model.base.reasoning if model.adapter is None else None
    return None if body.reasoning_effort == "none" else body.reasoning_effort


def _generation_request(body: ChatBody, model: FoundModel, asker: Account) -> GenerationRequest:
    from finetune_assets.server.generation.requests import GenerationRequest, ModelRef

    return GenerationRequest(
        model=ModelRef(model.base, model.adapter),
        messages=plain_messages(body.messages),
        owner=asker.name,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        n=body.n or 1,
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs or 0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
        json_schema=json_schema_of(body),
        tools=declared_tools(body),
        calling=calling_of(body),
        effort=_effort(body, model),
    )
