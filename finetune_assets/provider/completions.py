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


@dataclass(frozen=True)
class Reply:
    """One answer, or why there is none."""

    text: str | None
    top_logprobs: dict[str, float] | None
    """Log-probability of each candidate for the first token (natural logarithm), or None if the provider has none."""
    latency_s: float
    prompt_tokens: int
    completion_tokens: int
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
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Reply(None, None, time.perf_counter() - started, 0, 0, error=message(error))
    choice, usage = answer.choices[0], answer.usage
    return Reply(
        text=choice.message.content,
        top_logprobs=_candidates(choice),
        latency_s=time.perf_counter() - started,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
    )


def _candidates(choice: Choice) -> dict[str, float] | None:
    if choice.logprobs is None or not choice.logprobs.content:
        return None
    # Two tokens may read the same; the likelier one, which comes first, wins.
    return {candidate.token: candidate.logprob for candidate in reversed(choice.logprobs.content[0].top_logprobs)}
