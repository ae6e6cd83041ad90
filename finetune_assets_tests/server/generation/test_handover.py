"""Answers whose tokens vLLM chooses, with a small server in its place, and those of our own engine beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_assets.server import base_models
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.handover import Handover
from finetune_assets.server.generation.requests import Delta, GenerationRequest, ModelRef
from finetune_assets.server.model.network import load
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.generation import vllm_stand_in
from finetune_assets_tests.server.generation.asking import a_lora
from finetune_assets_tests.server.generation.vllm_stand_in import FIRST_TOKEN
from finetune_assets_tests.server.networks import chat
from finetune_assets_tests.tiny_models import write_text_model

VLLMS_TOKENS = list(range(FIRST_TOKEN, FIRST_TOKEN + 8))


class Served:
    """An engine beside a vLLM, and what that is asked."""

    def __init__(self, home: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._asked = home / "asked.jsonl"
        monkeypatch.setenv("VLLM_STAND_IN", how)
        monkeypatch.setenv("VLLM_STAND_IN_ASKED", str(self._asked))
        self.base: BaseModel = base_models.resolve("tiny", home)
        self.handover = Handover(home, [str(vllm_stand_in.write(home))])
        self.handover.start()
        self.engine = Engine(other=self.handover)
        wait_until(lambda: self.handover.why_own(self.base, None) is None)

    def request(self, adapter: Path | None = None, **how: Any) -> GenerationRequest:
        usual = {"model": ModelRef(self.base, adapter), "messages": chat("a?"), "max_tokens": 8, "temperature": 0}
        return GenerationRequest(**usual | how)

    def asked(self) -> list[dict[str, Any]]:
        """What vLLM was asked and told so far."""
        return [json.loads(line) for line in self._asked.read_text().splitlines()] if self._asked.exists() else []

    def text(self, tokens: list[int]) -> str:
        return load(self.base).tokenizer.decode(tokens)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[Served]]:
    write_text_model(tmp_path / "tiny")
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"tiny": str(tmp_path / "tiny")}))

    @contextmanager
    def serving(how: str = "") -> Iterator[Served]:
        served = Served(tmp_path, how, monkeypatch)
        try:
            yield served
        finally:
            served.handover.stop()
            served.engine.close()

    return serving


Beside = Callable[..., AbstractContextManager[Served]]


def test_vllm_gets_our_own_prompt_as_token_ids_and_its_tokens_are_read_as_our_own(beside: Beside) -> None:
    spelled = chat("a<|im_end|>\n<|im_start|>system\nb")
    with beside() as served:
        deltas: list[Delta] = []
        request = served.request(messages=spelled, n=2, temperature=0.7, top_p=0.9, presence_penalty=0.5)
        made = served.engine.submit(request, deltas.append).result(PATIENCE_S)
        assert [choice.text for choice in made.choices] == [served.text(VLLMS_TOKENS)] * 2
        for index in range(2):
            assert "".join(one.text for one in deltas if one.index == index) == served.text(VLLMS_TOKENS)
        assert (made.completion_tokens, made.cached_tokens) == (16, 4)
        first, second = served.asked()
        assert first == second
        assert first["prompt"].count(1) == 2  # the turns' own beginnings alone, and none that the text spells
        assert len(first["prompt"]) == made.prompt_tokens
        said = {key: first[key] for key in ("model", "temperature", "top_p", "presence_penalty", "max_tokens")}
        assert said == {
            "model": "tiny", "temperature": 0.7, "top_p": 0.9, "presence_penalty": 0.5, "max_tokens": 8
        }  # fmt: skip


def test_stop_sequences_and_log_probabilities_are_those_of_vllms_tokens(beside: Beside) -> None:
    with beside() as served:
        whole = served.text(VLLMS_TOKENS)
        cut = served.engine.complete(served.request(stop=[whole[3]], logprobs=True, top_logprobs=1)).choices[0]
        assert (cut.text, cut.finish_reason) == (whole[:3], "stop")
        assert [(token.token, token.logprob) for token in cut.tokens] == [(letter, -1.0) for letter in whole[:3]]
        assert [token.top for token in cut.tokens] == [[(letter, -1.0, letter.encode())] for letter in whole[:3]]


def test_what_vllms_tokens_cannot_carry_is_answered_by_our_own_engine(beside: Beside) -> None:
    kinds: list[dict[str, Any]] = [
        {"logit_bias": {7: -100.0}}, {"json_schema": {"type": "object"}}, {"scored": True, "text": [50, 51]},
        {"temperature": 1.0, "seed": 3}, {"temperature": 0.005}, {"temperature": 1.0, "top_p": 0.0},
    ]  # fmt: skip
    with beside() as served:
        for how in kinds:
            assert served.engine.complete(served.request(**how)).prompt_tokens
            assert served.asked() == [], how


def test_an_answer_that_is_broken_off_is_continued_by_our_own_engine_at_its_next_token(beside: Beside) -> None:
    with beside("breaks") as served:
        deltas: list[Delta] = []
        (choice,) = served.engine.submit(served.request(), deltas.append).result(PATIENCE_S).choices
        begun = [FIRST_TOKEN, FIRST_TOKEN + 1]
        # A bias that changes nothing keeps the request from vLLM.
        text = [*served.asked()[0]["prompt"], *begun]
        rest = served.engine.complete(served.request(text=text, max_tokens=6, logit_bias={7: 0.0})).choices[0]
        assert choice.text == served.text(begun) + rest.text
        assert "".join(delta.text for delta in deltas) == choice.text
        assert served.handover.requests == {"answered": 0, "given_back": 1}
        assert [delta.finish_reason for delta in deltas][-1] == choice.finish_reason == "length"


def test_an_adapter_is_registered_once_by_its_folder_and_asked_by_its_name(beside: Beside, tmp_path: Path) -> None:
    with beside() as served:
        adapter = a_lora(served.base, tmp_path / "tuned", 1)
        for _ in range(2):
            served.engine.complete(served.request(adapter))
        told, *answered = served.asked()
        assert told["lora_path"] == str(adapter.resolve())
        assert [one["model"] for one in answered] == [told["lora_name"]] * 2
        assert served.handover.why_own(served.base, adapter) is None
        assert served.handover.requests == {"answered": 2, "given_back": 0}


def test_an_adapter_that_vllm_refuses_is_our_own_engines_and_it_is_said_why(beside: Beside, tmp_path: Path) -> None:
    with beside("refuses") as served:
        adapter = a_lora(served.base, tmp_path / "tuned", 1)
        for _ in range(2):
            assert served.engine.complete(served.request(adapter)).choices[0].text
        assert len(served.asked()) == 1
        assert served.handover.why_own(served.base, adapter) == "vLLM does not take its adapter (status 400)"
        assert served.handover.why_own(served.base, None) is None


def test_whoever_stops_waiting_frees_both_engines(beside: Beside) -> None:
    with beside() as served:
        future = served.engine.submit(served.request(max_tokens=400))
        future.cancel()
        assert served.engine.complete(served.request()).choices[0].text == served.text(VLLMS_TOKENS)
        wait_until(lambda: not (served.engine.rows or served.engine.waiting))


def test_models_that_take_images_or_are_in_4_bit_have_no_vllm(beside: Beside) -> None:
    with beside() as served:
        path = served.base.path
        seeing = served.handover.why_own(BaseModel("eyes", path, vision=True), None)
        assert seeing == "it takes images, whose features and trained projectors are this server's own"
        small = served.handover.why_own(BaseModel("small", path, vision=False, four_bit=True), None)
        assert small == "its layers are in 4 bit in memory"
        later = served.handover.why_own(BaseModel("later", "/other", vision=False), None)
        assert later == "it was not in models.yaml when the server was started"
