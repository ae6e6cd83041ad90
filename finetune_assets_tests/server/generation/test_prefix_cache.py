from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.generation.completion import BLOCK, block_keys
from finetune_assets.server.generation.lora import Adapter
from finetune_assets.server.generation.prefix_cache import PrefixCache
from finetune_assets.server.model.chat_encoding import Sequence

BLOCK_BYTES = 40


def block() -> list[torch.Tensor]:
    return [torch.zeros(10)]


def test_the_longest_known_beginning_is_found() -> None:
    cache = PrefixCache(1_000)
    for key in (b"a", b"ab", b"abc", b"x"):
        cache.add(key, block())
    assert len(cache.find([b"a", b"ab", b"abd", b"x"])) == 2
    assert cache.find([b"b", b"a"]) == []


def test_what_was_not_used_for_longest_makes_room() -> None:
    cache = PrefixCache(3 * BLOCK_BYTES)
    for key in (b"a", b"b", b"c"):
        cache.add(key, block())
    cache.find([b"a"])
    cache.add(b"d", block())
    assert [key for key in (b"a", b"b", b"c", b"d") if cache.find([key])] == [b"a", b"c", b"d"]


def test_a_beginning_outlives_what_follows_it() -> None:
    cache = PrefixCache(3 * BLOCK_BYTES)
    for key in (b"a", b"ab", b"abc"):
        cache.add(key, block())
    cache.find([b"a", b"ab", b"abc"])
    cache.add(b"x", block())
    assert len(cache.find([b"a", b"ab", b"abc"])) == 2


@given(st.lists(st.integers(0, 30), max_size=80))
def test_the_budget_holds(keys: list[int]) -> None:
    cache = PrefixCache(5 * BLOCK_BYTES)
    for key in keys:
        cache.add(bytes([key]), block())
        assert cache.bytes == BLOCK_BYTES * sum(bool(cache.find([bytes([i])])) for i in range(31)) <= 5 * BLOCK_BYTES


def test_keys_stand_for_everything_before_the_end_of_their_block() -> None:
    ids = list(range(1, 4 * BLOCK + 1))
    other = [*ids[: BLOCK + 4], 999, *ids[BLOCK + 5 :]]
    keys, others = (block_keys(Sequence(row), None) for row in (ids, other))
    assert len(keys) == 3  # the last token's state is always computed
    assert [a == b for a, b in zip(keys, others, strict=True)] == [True, False, False]
    adapted = block_keys(Sequence(ids), Adapter("tuned", {}, None))
    assert not set(adapted) & set(keys)


def test_keys_tell_pictures_apart_from_the_block_they_begin_in() -> None:
    picture, words = [-1] * 9, list(range(1, 2 * BLOCK))
    ids = [*words[: BLOCK - 4], *picture, *words, *picture, *words[:4]]
    white, black = torch.ones(9, 4), torch.zeros(9, 4)

    def keys(*images: torch.Tensor) -> list[bytes]:
        return block_keys(Sequence(ids, images=list(images)), None)

    n_before = (len(words) + BLOCK - 4 + 9) // BLOCK  # blocks that end before the second picture begins
    same = [place < n_before for place in range((len(ids) - 1) // BLOCK)]
    assert keys(white, white) == keys(white, white)
    assert [a == b for a, b in zip(keys(white, white), keys(white, black), strict=True)] == same
    assert not any(a == b for a, b in zip(keys(white, white), keys(black, white), strict=True))
