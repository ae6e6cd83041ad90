"""Whom a router asks: the same server for a model as long as it has room, and all that a name stands for."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import pytest

from finetune_assets.server.routing.replicas import LOAD_FACTOR, Replica, Replicas, ServerAddressError

URLS = [f"http://10.0.0.{number}:8321" for number in range(4)]
MODELS = [f"ft:base:org:region-{number}:x" for number in range(300)]


def there(*urls: str) -> Replicas:
    """Servers that all answer; addresses are not looked up anywhere."""
    replicas = Replicas(urls)
    asyncio.run(replicas._look_up())
    for replica in replicas.all():
        replica.there = True
    return replicas


def first(replicas: Replicas) -> dict[str, str]:
    return {model: replicas.order(model)[0].url for model in MODELS}


def of(replicas: Replicas, url: str) -> Replica:
    return next(replica for replica in replicas.all() if replica.url == url)


def test_300_models_lie_about_evenly_on_the_servers_and_every_router_knows_where() -> None:
    placed = first(there(*URLS))
    assert placed == first(there(*reversed(URLS)))
    counts = Counter(placed.values())
    assert set(counts) == set(URLS) and max(counts.values()) < 1.4 * len(MODELS) / len(URLS)


def test_a_server_that_goes_moves_its_own_models_and_no_others() -> None:
    replicas = there(*URLS)
    before = first(replicas)
    of(replicas, URLS[1]).there = False
    after = first(replicas)
    assert {model for model in MODELS if before[model] != after[model]} == {
        model for model in MODELS if before[model] == URLS[1]
    }
    assert {after[model] for model in MODELS} == {URLS[0], URLS[2], URLS[3]}


def test_those_that_seem_away_are_asked_after_all_others() -> None:
    replicas = there(*URLS)
    of(replicas, URLS[0]).there = of(replicas, URLS[2]).there = False
    for order in (replicas.order(None), replicas.order(MODELS[0])):
        assert {replica.url for replica in order[:2]} == {URLS[1], URLS[3]}
        assert {replica.url for replica in order[2:]} == {URLS[0], URLS[2]}


def test_a_model_goes_to_the_next_of_its_servers_once_the_first_is_far_above_the_mean() -> None:
    replicas = there(*URLS[:2])
    favourite, other = replicas.order(MODELS[0])
    # 5 under way and one to come are 3 for each of two, and half as much again is 4.5, which is room for 5.
    assert LOAD_FACTOR == 1.5
    favourite.n_open, other.n_open = 4, 1
    assert replicas.order(MODELS[0])[0] is favourite
    favourite.n_open, other.n_open = 5, 0
    assert replicas.order(MODELS[0])[0] is other


def test_what_any_can_answer_goes_to_whom_has_the_least_to_do() -> None:
    replicas = there(*URLS)
    for number, url in enumerate(URLS):
        of(replicas, url).n_open = (3, 2, 0, 1)[number]
    assert [replica.url for replica in replicas.order(None)] == [URLS[2], URLS[3], URLS[1], URLS[0]]


def test_a_name_stands_for_all_its_addresses_as_they_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []

    def look_up(_host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if not found:
            raise socket.gaierror("nobody knows")
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    replicas = Replicas(["http://servers:8321/v1"])

    def urls() -> list[str]:
        asyncio.run(replicas._look_up())
        return [replica.url for replica in replicas.all()]

    assert urls() == []
    found[:] = [(socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "10.0.0.2"), (socket.AF_INET6, "fd00::1")]
    assert urls() == ["http://10.0.0.1:8321", "http://10.0.0.2:8321"]
    kept = replicas.all()[1]
    found[:] = [(socket.AF_INET, "10.0.0.2"), (socket.AF_INET, "10.0.0.3")]
    assert urls() == ["http://10.0.0.2:8321", "http://10.0.0.3:8321"] and replicas.all()[0] is kept
    found.clear()  # where nobody says, it is as it was
    assert urls() == ["http://10.0.0.2:8321", "http://10.0.0.3:8321"]


@pytest.mark.parametrize("url", ["server:8321", "ftp://server", "http://server/other", "http://", ""])
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ServerAddressError, match="http://server:8321"):
        Replicas([url])
    with pytest.raises(ServerAddressError, match="name the servers"):
        Replicas([])
