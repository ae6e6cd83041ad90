"""A provider's batches: all questions in a file, answered within a day, and at some providers for half the price.

The answers go into the cache, where whoever asks afterwards finds them. Nothing is sent twice: the same questions make
the same file, the provider is looked at for it and for its batch before either is made, and after a crash the next run
waits for the batch of the last one.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import openai
from openai.types import Batch

from finetune_assets.errors import ProviderError
from finetune_assets.provider import decisions
from finetune_assets.provider.answer_cache import AnswerCache, key_of
from finetune_assets.provider.asking import described
from finetune_assets.provider.client import Client, asked_as, explained, is_lacking
from finetune_assets.provider.completions import Messages, Reply, Settings, read_reply
from finetune_assets.provider.files import UploadedFile, upload_once
from finetune_assets.provider.manners import LEARNED
from finetune_assets.provider.once import alone, once

MAX_LINES = 50_000
MAX_BYTES = 190_000_000
"""OpenAI takes 50,000 lines and 200 MB."""
_LINE = b'{"custom_id":"%s","method":"POST","url":"/v1%s","body":%s}\n'
_COMPLETIONS = "/chat/completions"
_LOST = ("failed", "expired", "cancelling", "cancelled")
"""States of batches that will not answer everything: to ask again is to make another one."""
_ENDED = ("completed", "failed", "expired", "cancelled")
_FIRST_POLL_S, _LAST_POLL_S = 0.5, 30.0

Say = Callable[[str], None]


def answer_in_batches(
    client: Client, asked: Sequence[tuple[Settings, Iterable[Messages]]], cache: AnswerCache, say: Say
) -> None:
    """Have the provider answer in batches what is not in the cache, and wait for it.

    Every model's batches are made before the first one is waited for. What a batch does not answer, because a question
    was refused or its time was over, is left to be asked by itself; so is everything where there are no batches.

    Args:
        client: Speaks to the provider.
        asked: How each model is asked, and what.
        cache: Where answers are looked up and kept.
        say: Is told how far it is.

    Raises:
        ProviderError: the provider does not answer, refuses the file or the batch, or a person cancelled it.
    """
    with explained(client), tempfile.TemporaryDirectory() as folder:
        if not _has_batches(client):
            say(f"{client.base_url} has no batches: the questions are asked one by one")
            return
        started = []
        for settings, requests in asked:
            endpoint, lines = _new(client, settings, requests, cache)
            started += [_start_once(client, path, endpoint) for path in _write(Path(folder), lines)]
        for batch in started:
            cache.put_all(_replies(client, _ended(client, batch, say), Path(folder)))


def _has_batches(client: Client) -> bool:
    try:
        client.batches.list(limit=1)
    except openai.APIStatusError as error:
        if is_lacking(error):
            return False
        raise
    return True


def _new(
    client: Client, settings: Settings, requests: Iterable[Messages], cache: AnswerCache
) -> tuple[str, Iterator[bytes]]:
    """Return the endpoint that is asked, and a line for each request not in the cache; of equal ones for the first."""
    about, url = described(client, settings.model), asked_as(client)
    # Another provider's batches may not have decisions; then they are asked one by one.
    deciding = decisions.decides(about, settings)
    if deciding and not decisions.weighs(about):
        return decisions.PATH, iter(())

    def lines() -> Iterator[bytes]:
        seen, manner = set[bytes](), LEARNED.of(url, settings.model)
        for messages in requests:
            meant = decisions.body(settings, messages, raw=True) if deciding else settings.body(messages)
            key = key_of(url, about.get("created"), meant)
            if key not in seen and cache.get(key) is None:
                seen.add(key)
                body = meant if deciding else settings.body(messages, manner)
                yield _LINE % (key.hex().encode(), endpoint.encode(), body)

    endpoint = decisions.PATH if deciding else _COMPLETIONS
    return endpoint, lines()


def _write(folder: Path, lines: Iterator[bytes]) -> Iterator[Path]:
    """Write as many files as the provider's limits ask for, and give each once it is whole."""
    line = next(lines, None)
    for number in count():
        if line is None:
            break
        path = folder / f"questions-{number}.jsonl"
        with path.open("wb") as file:
            for _ in range(MAX_LINES):
                file.write(line)
                line = next(lines, None)
                if line is None or file.tell() + len(line) > MAX_BYTES:
                    break
        yield path


def _start_once(client: Client, path: Path, endpoint: str) -> Batch:
    """Return the batch for this file: the one that the provider has, else a new one."""
    file = upload_once(client, path, "batch")
    with alone(client, f"batch of {file.id}") as require_alone:
        batch, _ = once(
            partial(_find, client, file),
            partial(_create, client.with_options(max_retries=0), file, endpoint),
            require_alone,
        )
    return batch


def _find(client: Client, file: UploadedFile) -> Batch | None:
    uploaded_at = client.files.retrieve(file.id).created_at
    for batch in client.batches.list(limit=100):
        if batch.created_at < uploaded_at:
            break
        if batch.input_file_id == file.id and batch.status not in _LOST:
            return batch
    return None


def _create(client: Client, file: UploadedFile, endpoint: str) -> Batch:
    wanted: Any = f"/v1{endpoint}"  # the SDK's type does not know decisions yet
    return client.batches.create(input_file_id=file.id, endpoint=wanted, completion_window="24h")


def _ended(client: Client, batch: Batch, say: Say) -> Batch:
    """Wait for the end of a batch, saying how far it is."""
    pause, said = _FIRST_POLL_S, ""
    while True:
        if (words := _progress(batch)) != said:
            say(said := words)
        if batch.status in _ENDED:
            break
        time.sleep(pause)
        pause = min(1.5 * pause, _LAST_POLL_S)
        batch = client.batches.retrieve(batch.id)
    if batch.status in ("failed", "cancelled"):
        why = "; ".join(f"{each.message} ({each.code})" for each in (batch.errors and batch.errors.data) or ())
        raise ProviderError(
            f"batch {batch.id} {batch.status}{': ' * bool(why)}{why}; materialise again for another one, or take "
            "`batch` out of the task's `benchmark` to have the questions asked one by one"
        )
    return batch


def _progress(batch: Batch) -> str:
    words = f"batch {batch.id} of {batch.model or 'the model'} is {batch.status}"
    counts = batch.request_counts
    if counts is None or not counts.total:
        return words
    done = counts.completed + counts.failed
    return f"{words}, {done:,} of {counts.total:,} questions answered"


def _replies(client: Client, batch: Batch, folder: Path) -> Iterator[tuple[bytes, Reply]]:
    """Give keys and replies of the questions that were answered."""
    if batch.output_file_id is None:
        return
    path = folder / "answers.jsonl"
    with client.files.with_streaming_response.content(batch.output_file_id) as content:
        content.stream_to_file(path)
    with path.open("rb") as lines:
        for line in lines:
            try:
                answered = json.loads(line)
            except ValueError:
                return  # the file was cut on its way; what is missing is asked one by one
            response = answered.get("response") or {}
            if response.get("status_code") == 200:
                read = decisions.read_decision if "answers" in response["body"] else read_reply
                yield bytes.fromhex(answered["custom_id"]), read(response["body"])
