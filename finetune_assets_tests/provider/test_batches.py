"""Asking in a provider's batches."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune_assets.errors import ProviderError
from finetune_assets.provider import batches
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.batches import answer_in_batches
from finetune_assets.provider.completions import Messages, Reply, Settings
from finetune_assets_tests.provider.answering_provider import AnsweringProvider, question
from finetune_assets_tests.server_process import ServerProcess

TINY = Settings("tiny-text", max_tokens=2, top_logprobs=3)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are of the working directory."""
    monkeypatch.chdir(tmp_path)


def answer(
    client: openai.OpenAI, requests: Iterable[Messages], folder: Path, settings: Settings = TINY
) -> tuple[list[Reply], list[str]]:
    """Ask in batches, and then what is left; the replies, and what was said."""
    said: list[str] = []
    listed = list(requests)
    with AnswerCache(folder / "answers.sqlite") as cache:
        answer_in_batches(client, [(settings, listed)], cache, said.append)
        return list(ask_all(client, settings, listed, cache=cache)), said


def made(client: openai.OpenAI) -> set[str]:
    return {batch.id for batch in client.batches.list(limit=100)}


def test_a_batch_answers_what_is_not_answered_yet(client: openai.OpenAI, tmp_path: Path) -> None:
    before = made(client)
    few = [question(f"first {number}") for number in range(3)]
    more = [*few, *(question(f"second {number}") for number in range(4))]
    first, said = answer(client, few, tmp_path)
    second, _ = answer(client, more, tmp_path)
    new = [client.batches.retrieve(batch) for batch in made(client) - before]
    assert sorted(batch.request_counts.total for batch in new if batch.request_counts) == [3, 4]
    # A batch says no latency: none of these was asked by itself.
    assert [reply.latency_s for reply in second] == [None] * 7
    assert second[:3] == first and all(reply.tokens for reply in second)
    assert said[-1].endswith("of tiny-text is completed, 3 of 3 questions answered")
    assert answer(client, more, tmp_path) == (second, [])


def test_answers_are_those_that_single_questions_get(client: openai.OpenAI, tmp_path: Path) -> None:
    asked = [question(f"alike {number}") for number in range(3)]
    in_batch, _ = answer(client, asked, tmp_path)
    alone = list(ask_all(client, TINY, asked))
    assert [reply.text for reply in in_batch] == [reply.text for reply in alone]
    assert [reply.completion_tokens for reply in in_batch] == [reply.completion_tokens for reply in alone]


def test_a_lost_cache_finds_its_batch_again(client: openai.OpenAI, tmp_path: Path) -> None:
    asked = [question(f"lost {number}") for number in range(3)]
    replies, _ = answer(client, asked, tmp_path)
    before = made(client)
    assert answer(client, asked, tmp_path / "elsewhere")[0] == replies
    assert made(client) == before


DIES = """
import os, signal, sys
from pathlib import Path
import openai
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.batches import answer_in_batches
from finetune_assets.provider.completions import Settings
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2])
asked = [[{"role": "user", "content": f"dies {number}"}] for number in range(3)]
with AnswerCache(Path("answers.sqlite")) as cache:
    settings = Settings("tiny-text", max_tokens=2, top_logprobs=3)
    answer_in_batches(client, [(settings, asked)], cache, lambda words: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_run_that_died_while_it_waited_is_taken_up_by_the_next(server: ServerProcess, tmp_path: Path) -> None:
    client = server.client()
    before = made(client)
    died = subprocess.run([sys.executable, "-c", DIES, server.base_url, server.key], cwd=tmp_path)
    assert died.returncode == -9
    [batch] = made(client) - before
    _, said = answer(client, [question(f"dies {number}") for number in range(3)], tmp_path)
    assert made(client) - before == {batch} and said[-1].startswith(f"batch {batch} ")


def test_equal_questions_are_asked_once(client: openai.OpenAI, tmp_path: Path) -> None:
    before = made(client)
    replies, _ = answer(client, [question("the same")] * 3, tmp_path)
    [batch] = made(client) - before
    counts = client.batches.retrieve(batch).request_counts
    assert counts is not None and counts.total == 1
    assert replies[0] == replies[1] == replies[2]


def test_a_question_that_the_batch_refuses_is_refused_by_itself(client: openai.OpenAI, tmp_path: Path) -> None:
    picture: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    asked = [question("fine"), [{"role": "user", "content": picture}]]
    replies, _ = answer(client, asked, tmp_path)
    assert [reply.error is None for reply in replies] == [True, False]


def test_all_models_are_asked_at_the_same_time(client: openai.OpenAI, tmp_path: Path) -> None:
    said: list[str] = []
    settings = [TINY, Settings("gpt-4o-mini", max_tokens=2)]
    asked = [question(f"both {number}") for number in range(60)]  # the first batch lasts until the second is there
    before = made(client)
    began = time.time()
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        answer_in_batches(client, [(one, asked) for one in settings], cache, said.append)
    new = [client.batches.retrieve(batch) for batch in made(client) - before]
    assert {batch.model for batch in new} == {"tiny-text", "gpt-4o-mini"}
    assert all(batch.created_at >= int(began) for batch in new)
    assert max(batch.created_at for batch in new) <= min(batch.completed_at or 0 for batch in new) + 1


@pytest.mark.parametrize(("lines", "size"), [(2, 10**6), (50, 600)])
def test_many_questions_are_sent_in_files_within_the_limits(
    client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int, size: int
) -> None:
    monkeypatch.setattr(batches, "MAX_LINES", lines)
    monkeypatch.setattr(batches, "MAX_BYTES", size)
    before = made(client)
    replies, _ = answer(client, [question(f"{lines} {size} {number}") for number in range(5)], tmp_path)
    assert [reply.latency_s for reply in replies] == [None] * 5
    new = [client.batches.retrieve(batch) for batch in made(client) - before]
    # A line has some 280 bytes: two fit into 600.
    assert sorted(batch.request_counts.total for batch in new if batch.request_counts) == [1, 2, 2]
    assert all((client.files.retrieve(batch.input_file_id).bytes) <= size for batch in new)


def test_a_batch_that_a_person_cancelled_is_an_error_and_the_next_run_makes_another(
    client: openai.OpenAI, tmp_path: Path
) -> None:
    before = made(client)
    asked = [question(f"cancelled {number}") for number in range(300)]

    def cancel(_: str) -> None:
        for batch in made(client) - before:
            if client.batches.retrieve(batch).status in ("validating", "in_progress"):
                client.batches.cancel(batch)

    said = r"cancelled; materialise again for another one, or take `batch` out"
    with AnswerCache(tmp_path / "answers.sqlite") as cache, pytest.raises(ProviderError, match=said):
        answer_in_batches(client, [(TINY, asked)], cache, cancel)
    answer(client, asked, tmp_path)
    assert len(made(client) - before) == 2


def test_a_provider_without_batches_is_asked_one_by_one(answering: AnsweringProvider, tmp_path: Path) -> None:
    replies, said = answer(answering.client(), [question("a")], tmp_path, Settings("m", 2))
    assert [reply.text for reply in replies] == ["a"]
    assert said == [f"{answering.client().base_url} has no batches: the questions are asked one by one"]
