"""/v1/systemone over HTTP, through its own unmodified SDK (`pip install typesafe-sdk`), where that is installed."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_assets_tests.server.networks import bundled_vision_base, data_url, picture
from finetune_assets_tests.server_process import KEY, ServerProcess, make_home

sdk: Any = pytest.importorskip("typesafe_sdk")
pytestmark = pytest.mark.xdist_group("training")

QUESTIONS: dict[str, Any] = {
    "spam": sdk.Noul(instructions="Is this spam?", criteria={"true": "An advertisement", "false": None}),
    "tone": sdk.Choice(instructions="The tone?", criteria={"calm": "A polite text", "angry": None}),
    "urgency": sdk.Score(instructions={"rate": "urgency"}, criteria=["low", "mid", "high"]),
    "any": sdk.Choice(criteria={"a": None, "b": None}),
}


@pytest.fixture
def line(server: ServerProcess) -> Iterator[Any]:
    address = server.base_url.removesuffix("/v1")
    with sdk.TypeSafeClient(api_key=KEY, base_url=address, model="tiny-text", timeout=120) as client:
        yield client


@pytest.mark.parametrize("state", ["I was charged twice.", {"message": "Help", "n": 3}, ["a", {"b": None}]])
def test_named_questions_are_answered_by_their_names(line: Any, state: Any) -> None:
    found = line.system_one(state, QUESTIONS)
    assert list(found.answers) == list(QUESTIONS)
    assert 0 < found.nouls["spam"].noul < 1
    tone, urgency = found.choices["tone"], found.scores["urgency"]
    assert sum(tone.probabilities.values()) == pytest.approx(1)
    assert tone.probabilities[tone.choice] == max(tone.probabilities.values()) == tone.confidence
    assert urgency.legend == {0: "low", 1: "mid", 2: "high"}
    assert urgency.score == pytest.approx(sum(level * p for level, p in urgency.probabilities.items()))
    assert (found.model, found.usage.output_tokens) == ("tiny-text", 0)


def test_the_asynchronous_client_is_answered_the_same(server: ServerProcess, line: Any) -> None:
    async def ask() -> Any:
        async with sdk.AsyncTypeSafeClient(api_key=KEY, base_url=server.base_url.removesuffix("/v1")) as client:
            return await client.system_one("Hi.", QUESTIONS, model="tiny-text")

    assert asyncio.run(ask()).answers == line.system_one("Hi.", QUESTIONS).answers


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"questions": {}}, 422, "questions"),
        ({"questions": {"x": {"type": "box"}}}, 422, "box"),
        ({"questions": {"x": {"type": "choice", "criteria": {"a": None}}}}, 422, "criteria"),
        ({"questions": {"x": {"type": "score", "criteria": [str(n) for n in range(11)]}}}, 422, "maximum length 10"),
        ({"questions": {"x": {"type": "noul"}}}, 400, "needs instructions"),
        ({"state": 3}, 422, "state"),
        ({"model": "nobody"}, 404, "does not exist"),
        ({"assets": {"img": {"type": "image"}}}, 400, "neither"),
        ({"assets": {"img": {"part": "asset-9"}}}, 400, "no part"),
        ({"more": 1}, 422, "more"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_protocol(
    line: Any, body: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(sdk.TypeSafeAPIError, match=words) as refused:
        line.system_one("A text.", {"q": sdk.Noul(instructions="Well?")}, extra_body=body)
    assert refused.value.status == status


def test_images_come_as_parts_of_a_form_or_in_base64(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (home / "models.yaml").write_text(f"smollm2-135m-vision: {bundled_vision_base(tmp_path).path}\n")
    asked: dict[str, Any] = {"red": sdk.Noul(instructions="Is it red?")}
    with ServerProcess(home) as running:
        address = running.base_url.removesuffix("/v1")
        with sdk.TypeSafeClient(api_key=KEY, base_url=address, model="smollm2-135m-vision", timeout=120) as client:
            found = []
            for color in ("red", "blue"):
                buffer = io.BytesIO()
                picture(color).save(buffer, "PNG")
                found.append(client.system_one(sdk.Image(buffer.getvalue()), asked).nouls["red"].noul)
            payload = data_url(picture("red")).partition(",")[2]
            assets: Any = {"img-1": {"type": "image", "format": "png", "data_base64": payload}}
            inline = client.system_one("img-1", asked, extra_body={"assets": assets}).nouls["red"].noul
    assert found[0] != found[1]
    assert inline == found[0]
