"""Answers that are kept: found by what was asked, and there after any crash; in a file, and where machines meet."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import AnswerCacheError
from finetune_assets.provider.answer_cache import AnswerCache, key_of
from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.completions import Reply, Settings, Token
from finetune_assets_tests.postgres_server import new_schema
from finetune_assets_tests.provider.answering_provider import AnsweringProvider, echo, question, refusal

M = Settings("m", max_tokens=2)

logprobs = st.floats(max_value=0, allow_nan=False, allow_infinity=False)
tokens = st.builds(Token, st.text(), logprobs, st.dictionaries(st.text(), logprobs, max_size=3))
replies = st.builds(
    Reply,
    text=st.none() | st.text(st.characters()),
    tokens=st.lists(tokens, max_size=3).map(tuple),
    latency_s=st.none() | st.floats(0, 1e4),
    prompt_tokens=st.integers(0, 10**9),
    completion_tokens=st.integers(0, 10**9),
    finish_reason=st.none() | st.sampled_from(["stop", "length"]),
)
words = st.text(max_size=5)
asked = st.fixed_dictionaries(
    {
        "base_url": st.sampled_from(["http://a/v1/", "http://b/v1/"]),
        "made": st.none() | st.integers(0, 2),
        "settings": st.builds(Settings, st.sampled_from(["m", "ft:m"]), st.integers(1, 2), st.integers(0, 1)),
        "messages": st.lists(st.fixed_dictionaries({"role": words, "content": words}), max_size=2),
    }
)


def key(of: dict[str, Any]) -> bytes:
    return key_of(of["base_url"], of["made"], of["settings"].body(of["messages"]))


@pytest.fixture(params=["a file", "a common database"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a cache is opened; the database is the environment's."""
    if request.param == "a common database":
        monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", new_schema(request.getfixturevalue("postgres")))
    return tmp_path / "answers.sqlite"


@given(replies)
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert Reply.from_json(reply.to_json()) == reply


@given(asked, asked)
def test_two_requests_share_an_answer_exactly_if_they_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (key(one) == key(other)) == (one == other)


@given(asked)
def test_the_order_in_which_a_message_says_its_parts_makes_no_difference(one: dict[str, Any]) -> None:
    turned = [dict(reversed(message.items())) for message in one["messages"]]
    assert key(one) == key(one | {"messages": turned})


def test_one_byte_of_a_picture_makes_another_question() -> None:
    def look(url: str) -> dict[str, Any]:
        part = {"type": "image_url", "image_url": {"url": url}}
        return {"base_url": "a", "made": 1, "settings": M, "messages": [{"role": "user", "content": [part]}]}

    assert key(look("data:image/png;base64,AAAA")) != key(look("data:image/png;base64,AAAB"))


def test_what_was_answered_is_not_asked_again(answering: AnsweringProvider, path: Path) -> None:
    for questions in ("abc", "abcde"):
        with AnswerCache(path) as cache:
            replies = list(ask_all(answering.client(), M, map(question, questions), cache=cache))
        assert [reply.text for reply in replies] == list(questions)
    assert sorted(answering.questions) == list("abcde")


@pytest.mark.parametrize("settings", [Settings("m", 3), Settings("n", 2), Settings("m", 2, top_logprobs=0)])
def test_another_model_or_setting_is_asked_anew(
    answering: AnsweringProvider, tmp_path: Path, settings: Settings
) -> None:
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        for one in (M, settings):
            list(ask_all(answering.client(), one, [question("a")], cache=cache))
    assert answering.questions == ["a", "a"]


def test_an_alias_that_was_given_to_another_model_is_asked_anew(answering: AnsweringProvider, path: Path) -> None:
    with AnswerCache(path) as cache:
        for made in (1, 1, 2):
            answering.made = made
            list(ask_all(answering.client(), M, [question("a")], cache=cache))
    assert answering.questions == ["a", "a"]


def test_a_refusal_is_asked_again(answering: AnsweringProvider, path: Path) -> None:
    answering.answer = lambda _: refusal(400)
    with AnswerCache(path) as cache:
        list(ask_all(answering.client(), M, [question("a")], cache=cache))
        answering.answer = echo
        [reply] = ask_all(answering.client(), M, [question("a")], cache=cache)
    assert reply.text == "a"


ASKS = """
import sys
from pathlib import Path
import openai
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.asking import ask_all
from finetune_assets.provider.completions import Settings
client = openai.OpenAI(base_url=sys.argv[1], api_key="k", max_retries=0)
questions = ([{"role": "user", "content": str(n)}] for n in range(int(sys.argv[3])))
with AnswerCache(Path(sys.argv[2])) as cache:
    for _ in ask_all(client, Settings("m", max_tokens=2), questions, cache=cache, concurrency=8):
        pass
"""


def test_after_a_kill_only_what_is_missing_is_asked(answering: AnsweringProvider, path: Path) -> None:
    n = 200
    answering.latency_s = 0.005
    command = [sys.executable, "-c", ASKS, answering.base_url, str(path), str(n)]
    first = subprocess.Popen(command)
    while answering.n_answered < n / 2:
        assert first.poll() is None
    first.kill()
    first.wait()
    before = len(answering.asked)
    subprocess.run(command, check=True)
    asked_again = set(answering.questions[:before]) & set(answering.questions[before:])
    # Only what was under way when the process died may be asked twice.
    assert len(asked_again) <= 8
    assert set(answering.questions) == {str(number) for number in range(n)}
    subprocess.run(command, check=True)
    assert len(answering.asked) == n + len(asked_again)


def kept(path: Path) -> list[int]:
    """Which of the answers that `fill` keeps are there."""
    with AnswerCache(path) as cache:
        return [number for number in range(900) if cache.get(number.to_bytes(32, "big"))]


def fill(path: Path, first: int, n: int = 200) -> None:
    """Keep `n` answers, one by one."""
    with AnswerCache(path) as cache:
        for number in range(first, first + n):
            cache.put(number.to_bytes(32, "big"), Reply(str(number)))


def fill_and_die(path: Path) -> None:
    cache = AnswerCache(path)
    for number in range(50):
        cache.put(number.to_bytes(32, "big"), Reply(str(number)))
    os.kill(os.getpid(), signal.SIGKILL)


forking = multiprocessing.get_context("fork")


@pytest.mark.parametrize("torn", [1, 100, 4000])
def test_a_torn_end_costs_the_last_answers_and_no_other(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "answers.sqlite"
    dying = forking.Process(target=fill_and_die, args=(path,))
    dying.start()
    dying.join()
    log = path.with_name(f"{path.name}-wal")
    with log.open("rb+") as file:
        file.truncate(log.stat().st_size - torn)
    assert kept(path) == list(range(49))
    fill(path, 49, n=1)
    assert kept(path) == list(range(50))


def test_processes_share_what_is_kept(path: Path) -> None:
    working = [forking.Process(target=fill, args=(path, 300 * number)) for number in range(3)]
    for process in working:
        process.start()
    for process in working:
        process.join()
    assert [process.exitcode for process in working] == [0, 0, 0]
    assert kept(path) == [number for first in (0, 300, 600) for number in range(first, first + 200)]


def test_many_replies_are_kept_together_or_not_at_all(path: Path) -> None:
    with AnswerCache(path) as cache:
        with pytest.raises(TypeError):
            cache.put_all([(b"1", Reply("one")), (b"2", Reply({1}))])  # pyright: ignore[reportArgumentType]
        assert [cache.get(b"1"), cache.get(b"2")] == [None, None]
        cache.put_all([(b"1", Reply("one")), (b"2", Reply(None, error="refused")), (b"1", Reply("newer"))])
        assert [cache.get(b"1"), cache.get(b"2")] == [Reply("newer"), None]


def test_what_grows_too_large_forgets_its_oldest_quarter(path: Path) -> None:
    fill(path, 0, n=200)
    AnswerCache(path, max_bytes=1000).__exit__()
    assert kept(path) == list(range(50, 200))


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_text("something else, of some length, which SQLite does not know" * 20)
    with pytest.raises(AnswerCacheError, match=r"answers\.sqlite cannot be read or kept .*delete the file"):
        AnswerCache(path)


def test_the_file_is_a_plain_table_of_json(tmp_path: Path) -> None:
    fill(tmp_path / "answers.sqlite", 7, n=1)
    [(written,)] = sqlite3.connect(tmp_path / "answers.sqlite").execute("SELECT reply FROM answers")
    assert json.loads(written)[0] == "7"
