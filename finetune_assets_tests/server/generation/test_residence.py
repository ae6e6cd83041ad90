"""Base models make room for each other, and those in use stay."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.memory import weight_bytes, weights_limit
from finetune_assets.server.generation.residence import Residence, Resident
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.generation.asking import request
from finetune_assets_tests.server.networks import bundled_vision_base, chat, data_url, picture, text_base


class Weights:
    """Stands for a model; only its size is of interest."""

    def __init__(self, size: int) -> None:
        self.size = size


def put(residence: Residence[Weights], size: int) -> weakref.ref[Weights]:
    """Load a model of a size, answer one request with it, and leave it idle."""
    resident = residence.add(lambda: size)
    made = weakref.ref(residence.enter(resident, lambda: Weights(size), lambda model: model.size))
    residence.leave(resident)
    return made


def test_the_model_that_was_not_asked_for_the_longest_time_makes_room() -> None:
    residence: Residence[Weights] = Residence(10)
    first, second, third = (put(residence, 4) for _ in range(3))
    gc.collect()
    assert [first() is None, second() is None, third() is None] == [True, False, False]
    assert residence.loaded == (2, 8)


def test_a_model_that_is_larger_than_all_the_room_is_loaded_alone() -> None:
    residence: Residence[Weights] = Residence(10)
    small, large = put(residence, 4), put(residence, 40)
    gc.collect()
    assert small() is None
    assert large() is not None
    assert residence.loaded == (1, 40)


def test_a_model_in_use_stays_and_begins_nothing_more_while_another_one_waits() -> None:
    residence: Residence[Weights] = Residence(10)
    used, wanted = residence.add(lambda: 8), residence.add(lambda: 8)
    residence.enter(used, lambda: Weights(8), lambda model: model.size)
    order: list[str] = []

    def enter(resident: Resident[Weights], name: str) -> None:
        residence.enter(resident, lambda: Weights(8), lambda model: model.size)
        order.append(name)
        residence.leave(resident)

    others = [threading.Thread(target=enter, args=(wanted, "wanted"))]
    others[0].start()
    wait_until(lambda: residence.n_wanting == 1)
    others.append(threading.Thread(target=enter, args=(used, "used again")))
    others[1].start()
    order.append("left")
    residence.leave(used)
    for thread in others:
        thread.join(PATIENCE_S)
    assert order == ["left", "wanted", "used again"]
    assert residence.loaded == (1, 8)


def test_a_model_that_cannot_be_loaded_takes_no_room() -> None:
    residence: Residence[Weights] = Residence(10)
    resident = residence.add(lambda: 8)
    with pytest.raises(ZeroDivisionError):
        residence.enter(resident, lambda: Weights(1 // 0), lambda model: model.size)
    assert residence.loaded == (0, 0)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[BaseModel]:
    return [text_base(tmp_path_factory.mktemp("models"), seed) for seed in range(2)]


@pytest.fixture
def tight(bases: list[BaseModel]) -> Iterator[Engine]:
    """An engine with room for one model."""
    engine = Engine(limit=int(1.5 * weight_bytes(bases[0])))
    yield engine
    engine.close()


def test_an_engine_with_room_for_one_model_answers_as_two(tight: Engine, bases: list[BaseModel]) -> None:
    def said(base: BaseModel) -> str:
        return tight.complete(request(base, chat("Is it?"), temperature=0)).choices[0].text

    first, second = said(bases[0]), said(bases[1])
    assert [said(bases[0]), said(bases[1])] == [first, second]
    assert first != second
    assert tight.in_memory()["models"] == 1
    assert 0 < tight.in_memory()["bytes"] <= tight.in_memory()["limit_bytes"]


def test_names_of_one_model_share_its_weights(tight: Engine, bases: list[BaseModel]) -> None:
    alias = BaseModel("alias", bases[0].path, vision=False, reasoning=None)
    for base in (bases[0], alias):
        tight.complete(request(base, chat("Is it?")))
    assert tight.in_memory()["models"] == 1


def test_the_room_is_a_share_of_what_the_machine_has() -> None:
    assert weights_limit() > 2**28


def test_a_text_does_not_wait_for_the_images_of_another_client(tmp_path: Path) -> None:
    base = bundled_vision_base(tmp_path)
    engine = Engine()
    engine.complete(request(base, chat("Is it?")))
    shown = [{"type": "image_url", "image_url": {"url": data_url(picture("red", (40, 30 + n)))}} for n in range(20)]
    order: list[str] = []
    seeing = engine.submit(request(base, [{"role": "user", "content": shown}], max_tokens=1))
    seeing.add_done_callback(lambda _: order.append("images"))
    engine.submit(request(base, chat("Is it?"))).add_done_callback(lambda _: order.append("text"))
    seeing.result(PATIENCE_S)
    engine.close()
    assert order == ["text", "images"]
