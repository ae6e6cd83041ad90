"""Many questions to one model: many at once, as fast as the provider lets us, answered in order, in flat memory.

All of it happens in an event loop in a thread of its own, where each of so many workers takes the next request, looks
it up in what was answered before, sends it if it is new, and keeps the answer. The caller is handed replies some at a
time: threads that took turns at every request would wait for each other most of the time. Memory holds the requests
under way and a window of replies, which are small, so that one slow answer does not hold up the others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import openai
from anyio.from_thread import start_blocking_portal

from finetune_assets.provider import decisions
from finetune_assets.provider.answer_cache import AnswerCache, key_of
from finetune_assets.provider.client import Client, asked_as, asynchronous, explained, message
from finetune_assets.provider.completions import Messages, Reply, Settings, read_reply
from finetune_assets.provider.manners import LEARNED, Manner, refused_parameter
from finetune_assets.provider.once import may_pass, pause
from finetune_assets.provider.pace import Pace
from finetune_assets.provider.progress import Progress

AHEAD = 4096
"""Replies that are kept while an earlier one is still to come."""
_GATHER_S = 0.02
"""How long replies are gathered before the caller is woken."""
_OVERLOADED = (429, 503, 529)
"""Statuses that ask everyone to be slower, not one request to be repeated."""

logger = logging.getLogger(__name__)


def ask_all(
    client: Client,
    settings: Settings,
    requests: Iterable[Messages],
    *,
    cache: AnswerCache | None = None,
    concurrency: int = 64,
    total: int | None = None,
    say: Callable[[str], None] = logger.info,
) -> Iterator[Reply]:
    """Yield the model's reply to each request, in the order of the requests; those in the cache are not sent.

    A request that is refused for its own content yields a reply with an `error`. Trouble that concerns all of them (no
    answer, wrong key, unknown model, a rate limit that never ends) is raised, because an outage scored as wrong answers
    would look like a bad model. How far it is is said every ten seconds, and at the end.

    Args:
        client: Speaks to the provider; its `max_retries` are granted to each request.
        settings: The model, and how it is asked.
        requests: Drawn from as they are sent, in another thread.
        cache: Where answers are looked up and kept.
        concurrency: Most requests under way at once.
        total: How many there will be, for the time that is left.
        say: Is told how far it is.

    Raises:
        ProviderError: the provider does not answer, or refuses to serve the model.
        AnswerCacheError: answers cannot be read or kept.
    """
    with explained(client), start_blocking_portal() as portal:
        line = _Line(client, settings, cache, Pace(concurrency), say)
        asked = _Questions(line, requests)
        progress = Progress(settings.model, line.pace, total, say)
        ended = portal.start_task_soon(asked.answer, concurrency)
        while (replies := portal.call(asked.take, progress.due_s)) is not None:
            progress.show(asked.n_answered, line.n_known)
            yield from replies
        ended.result()
        progress.tell()


def described(client: Client, model: str) -> dict[str, Any]:
    """Return what the provider says of a model: when it was `created`, for example; nothing where it does not say.

    An alias of the local server is as old as the file that says what it stands for.

    Raises:
        openai.APIError: the key is wrong, or the provider does not answer.
    """
    try:
        return client.models.retrieve(model).to_dict()
    except openai.AuthenticationError:
        raise
    except openai.APIStatusError:
        return {}


class _Questions:
    """Requests and their replies, by number; lives in the event loop."""

    def __init__(self, line: _Line, requests: Iterable[Messages]) -> None:
        self._line = line
        self._requests = enumerate(requests)
        self._replies: dict[int, Reply] = {}
        self._taken = 0
        self._all_drawn = self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def n_answered(self) -> int:
        """How many have their reply."""
        return self._taken + len(self._replies)

    async def answer(self, concurrency: int) -> None:
        """Have all requests answered, so many at once."""
        try:
            async with self._line:
                await asyncio.gather(*(self._work() for _ in range(concurrency)))
        finally:
            self._ended = True
            self._changed.set()

    async def take(self, patience_s: float) -> list[Reply] | None:
        """Give the replies that are next; none after `patience_s` seconds without one, None after the last one."""
        if not self._ended:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), patience_s)
            await asyncio.sleep(_GATHER_S)
        first = self._taken
        while self._taken in self._replies:
            self._taken += 1
        self._changed.clear()
        self._room.set()
        replies = [self._replies.pop(number) for number in range(first, self._taken)]
        return None if self._ended and not replies else replies

    async def _work(self) -> None:
        """Answer one request after the other."""
        while (drawn := next(self._requests, None)) is not None:
            number, messages = drawn
            self._replies[number] = await self._line.ask(messages)
            if number == self._taken:
                self._changed.set()
            while number - self._taken > AHEAD:
                self._room.clear()
                await self._room.wait()


class _Line:
    """Looks requests up, sends those that are new, and keeps their replies; lives in the event loop."""

    def __init__(
        self, client: Client, settings: Settings, cache: AnswerCache | None, pace: Pace, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._say = say
        self._url = asked_as(client)
        about = described(client, settings.model) if cache is not None or settings.question else {}
        self._made = about.get("created")
        self._decides, self._raw = decisions.decides(about, settings), decisions.weighs(about)
        self._retries = client.max_retries
        self._http = asynchronous(client.with_options(timeout=settings.patience_s))
        self.pace = pace
        self.n_known = 0
        """Replies that were looked up."""

    async def __aenter__(self) -> None:
        await self._http.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._http.__aexit__(*error)

    async def ask(self, messages: Messages) -> Reply:
        """Return the reply that is kept, or ask for it and keep it."""
        if self._cache is None:
            return await self._answer(messages)
        if self._decides:
            key = key_of(self._url, self._made, decisions.body(self._settings, messages, raw=self._raw))
        else:
            key = key_of(self._url, self._made, self._settings.body(messages))
        if (known := self._cache.get(key)) is not None:
            self.n_known += 1
            await asyncio.sleep(0)  # thousands of known replies must not keep the others waiting
            return known
        reply = await self._answer(messages)
        self._cache.put(key, reply)
        return reply

    async def _answer(self, messages: Messages) -> Reply:
        failures, tried = 0, None
        while True:
            manner = tried or LEARNED.of(self._url, self._settings.model)
            reply = await self._attempt(messages, manner, failures)
            if isinstance(reply, Manner):
                tried = reply
            elif reply is None:
                failures += 1
            else:
                if tried is not None and reply.error is None and LEARNED.learn(self._url, self._settings.model, tried):
                    self._say(f"{self._settings.model} is asked with {tried} from now on: it refuses anything else")
                return reply

    async def _attempt(self, messages: Messages, manner: Manner, failures: int) -> Reply | Manner | None:
        """Send the request once.

        Returns:
            The reply; the manner to try next, where a parameter was refused; or None, after a pause, where it failed
            and may not fail again.
        """
        async with self.pace.turn() as began:
            try:
                return await self._send(messages, manner)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as refused:
                sent = {} if self._decides else manner.fit(self._settings.asked(messages))
                parameter = refused_parameter(refused, sent)
                return Reply(None, error=message(refused)) if parameter is None else manner.without(parameter)
            except openai.APIError as failed:
                error = failed
            if overloaded := _is_overload(error):
                self.pace.refused(began, pause(error, self.pace.refusals + 1))
        if (self.pace.refusals if overloaded else failures + 1) > self._retries or not may_pass(error):
            raise error
        if not overloaded:
            await asyncio.sleep(pause(error, failures + 1))
        return None

    async def _send(self, messages: Messages, manner: Manner) -> Reply:
        if self._decides:
            path, body = decisions.PATH, decisions.body(self._settings, messages, raw=self._raw)
        else:
            path, body = "/chat/completions", self._settings.body(messages, manner)
        began = time.perf_counter()
        # The SDK's objects take longer to build than all the rest of a request.
        response = await self._http.post(
            path,
            content=body,
            cast_to=httpx2.Response,
            options={"headers": {"Content-Type": "application/json"}},
        )
        latency = time.perf_counter() - began
        self.pace.answered()
        read = decisions.read_decision if self._decides else read_reply
        return read(_parsed(response.content), latency)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _is_overload(error: openai.APIError) -> bool:
    return isinstance(error, openai.APIStatusError) and error.status_code in _OVERLOADED
