from __future__ import annotations

import codecs
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.next_tokens import NextToken
from finetune_assets.server.generation.requests import Delta, GenerationRequest, ModelRef
from finetune_assets.server.generation.sampling import TokenLogprob

MODEL = ModelRef(BaseModel("any", "", vision=False), None)
END = NextToken(0, None)


class Bytes:
    """Stands for the text of tokens that are bytes."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        return self._decoder.decode(self._pieces[token - 1])

    def rest(self) -> str:
        return self._decoder.decode(b"", final=True)


def spoken(pieces: list[bytes], limit: int = 1_000, **how: Any) -> tuple[Answer, list[Delta]]:
    """An answer that was given these tokens, until it ended, and what its listener heard."""
    heard: list[Delta] = []
    answer = Answer(GenerationRequest(model=MODEL, messages=[], **how), 0, limit, Bytes(pieces), listen=heard.append)
    for number, data in enumerate(pieces, 1):
        if answer.finish_reason is None:
            logprob = TokenLogprob(data.decode(errors="replace"), 0.0, data, []) if answer.request.logprobs else None
            answer.take(NextToken(number, logprob), ends=False)
    if answer.finish_reason is None:
        answer.take(END, ends=True)
    return answer, heard


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces that end at these places."""
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(borders)]


@given(text=st.text(max_size=20), places=st.lists(st.integers(0, 100), max_size=8))
def test_pieces_of_characters_are_told_as_whole_characters(text: str, places: list[int]) -> None:
    text = text.encode("utf-8", errors="replace").decode()
    answer, heard = spoken(cut(text.encode(), places))
    assert answer.choice().text == "".join(delta.text for delta in heard) == text
    assert [delta.finish_reason for delta in heard[:-1]] == [None] * (len(heard) - 1)
    assert heard[-1].finish_reason == "stop"


@given(
    text=st.text("abx", max_size=30),
    places=st.lists(st.integers(0, 100), max_size=12),
    stop=st.lists(st.text("abx", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_no_part_of_a_stop_sequence_is_ever_told(text: str, places: list[int], stop: list[str]) -> None:
    pieces = [piece for piece in cut(text.encode(), places) if piece]
    answer, heard = spoken(pieces, stop=stop, logprobs=True)
    told = "".join(delta.text for delta in heard)
    assert told == answer.choice().text
    assert not any(sequence in told for sequence in stop)
    if any(sequence in text for sequence in stop):
        assert any(text.startswith(told + sequence) for sequence in stop)
    else:
        assert told == text
    assert [token for delta in heard for token in delta.tokens] == answer.choice().tokens
    assert len(answer.choice().tokens) == answer.n_tokens
    listed = b"".join(token.bytes for token in answer.choice().tokens)
    assert listed.startswith(told.encode())


def test_text_that_may_begin_a_stop_sequence_is_told_once_it_does_not() -> None:
    _answer, heard = spoken([b"one E", b"N", b"D", b"!"], stop=["ENE"])
    assert [delta.text for delta in heard] == ["one ", "END", "!", ""]


def test_tokens_of_a_stop_sequence_do_not_count() -> None:
    answer, _heard = spoken([b"Yes", b"\n", b"\n", b"more"], stop=["\n\n"], logprobs=True)
    assert (answer.choice().text, answer.n_tokens, answer.finish_reason) == ("Yes", 1, "stop")


def test_an_answer_that_ends_within_a_character_ends_with_the_replacement_character() -> None:
    answer, heard = spoken(["é".encode()[:1], b"?"], limit=1)
    assert (answer.choice().text, answer.finish_reason) == ("\ufffd", "length")
    assert heard[-1].text == "\ufffd"


@pytest.mark.parametrize("seed", [0, -5, 2**63 - 1])
def test_a_seed_gives_the_same_draws_and_each_index_its_own(seed: int) -> None:
    request = GenerationRequest(model=MODEL, messages=[], seed=seed)
    first, same, other = (Answer(request, index, 9, Bytes([])) for index in (0, 0, 1))
    draws = [[answer.draw() for _ in range(3)] for answer in (first, same, other)]
    assert draws[0] == draws[1] != draws[2]
    assert all(0 <= draw < 1 for row in draws for draw in row)
