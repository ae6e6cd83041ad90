"""Many questions to one model: several at once, answered in order, in flat memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import openai
from openai.types.chat.chat_completion import Choice

from finetune_assets.provider.client import Client, explained, message

Messages = list[dict[str, Any]]

_SILENCE_S, _SECONDS_PER_TOKEN = 60, 1
"""How long an answer is waited for; a processor that answers many at once writes a token a second or more."""


@dataclass(frozen=True)
class Token:
    """One token of an answer; probabilities are natural logarithms, given all tokens before it."""

    text: str
    logprob: float
    candidates: dict[str, float]
    """Log-probability of the likeliest tokens at this place, as many as were asked for."""


@dataclass(frozen=True)
class Reply:
    """One answer, or why there is none."""

    text: str | None
    tokens: tuple[Token, ...]
    """The tokens of `text`, without the one that ends it; empty if the provider gives no log-probabilities."""
    latency_s: float
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None = None
    """`length` where the answer was cut off at `max_tokens`."""
    error: str | None = None
    """Why the provider refused this one request."""


def ask_all(
    client: Client,
    model: str,
    requests: Iterable[Messages],
    *,
    max_tokens: int,
    top_logprobs: int = 20,
    concurrency: int = 16,
) -> Iterator[Reply]:
    """Yield the model's reply to each request at temperature 0, in the order of the requests.

    At most twice `concurrency` requests are held in memory. A request that is refused for its own content yields a
    reply with an `error`. Trouble that concerns all of them (no answer, wrong key, unknown model, rate limit after
    the SDK's retries) is raised, because an outage scored as wrong answers would look like a bad model.

    Raises:
        ProviderError: the provider does not answer, or refuses to serve the model.
    """
    ask = partial(_ask, client, model, max_tokens=max_tokens, top_logprobs=top_logprobs)
    waiting: deque[Future[Reply]] = deque()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="ask") as pool:
        try:
            for messages in requests:
                waiting.append(pool.submit(ask, messages))
                if len(waiting) >= 2 * concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Leaving early (an error, or a caller that stops) must not send what is still queued.
            pool.shutdown(wait=False, cancel_futures=True)


def _ask(client: Client, model: str, messages: Messages, *, max_tokens: int, top_logprobs: int) -> Reply:
    started = time.perf_counter()
    with explained(client):
        try:
            answer = client.chat.completions.create(
                model=model,
                messages=messages,  # pyright: ignore[reportArgumentType] -- plain dicts of the same shape
                max_tokens=max_tokens,
                temperature=0,
                logprobs=True,
                top_logprobs=top_logprobs,
                timeout=_SILENCE_S + _SECONDS_PER_TOKEN * max_tokens,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Reply(None, (), time.perf_counter() - started, 0, 0, error=message(error))
    choice, usage = answer.choices[0], answer.usage
    return Reply(
        text=choice.message.content,
        tokens=_tokens(choice),
        latency_s=time.perf_counter() - started,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        finish_reason=choice.finish_reason,
    )


def _tokens(choice: Choice) -> tuple[Token, ...]:
    content = choice.logprobs.content if choice.logprobs else None
    return tuple(
        # Two candidates may read the same; the likelier one, which comes first, wins.
        Token(each.token, each.logprob, {other.token: other.logprob for other in reversed(each.top_logprobs)})
        for each in content or ()
    )
