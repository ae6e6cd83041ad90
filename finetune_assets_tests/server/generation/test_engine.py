"""Answers as whoever asks sees them, in the precision that models have here."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_assets.errors import BaseModelError
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import Delta
from finetune_assets.server.model.chat_encoding import PromptError
from finetune_assets_tests.patience import PATIENCE_S, wait_until
from finetune_assets_tests.server.generation.asking import request
from finetune_assets_tests.server.networks import chat, text_base

pytestmark = pytest.mark.precision


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


def test_an_answer_ends_at_the_token_limit_or_before_a_stop_sequence(engine: Engine, base: BaseModel) -> None:
    whole = engine.complete(request(base, chat("a?"), temperature=0)).choices[0]
    assert whole.finish_reason == "length"
    stop = whole.text[3]
    cut = engine.complete(request(base, chat("a?"), temperature=0, stop=[stop])).choices[0]
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


def test_deltas_are_the_answer_in_pieces(engine: Engine, base: BaseModel) -> None:
    deltas: list[Delta] = []
    asked = request(base, chat("a?"), n=2, seed=1, max_tokens=30, logprobs=True, temperature=1.5)
    made = engine.submit(asked, deltas.append).result(PATIENCE_S)
    for index, choice in enumerate(made.choices):
        own = [delta for delta in deltas if delta.index == index]
        assert "".join(delta.text for delta in own) == choice.text
        assert [token for delta in own for token in delta.tokens] == choice.tokens
        assert [delta.finish_reason for delta in own] == [None] * (len(own) - 1) + [choice.finish_reason]
        assert len(own) > 5


def test_a_cancelled_request_leaves_the_batch(engine: Engine, base: BaseModel) -> None:
    begun = threading.Event()
    future = engine.submit(request(base, chat("a?"), max_tokens=450), lambda delta: begun.set())
    assert begun.wait(PATIENCE_S)
    assert future.cancel()
    assert engine.complete(request(base, chat("b"))).choices[0].text
    assert engine.rows == engine.waiting == 0


def test_cancelling_many_answers_at_any_moment_leaves_nothing_behind(engine: Engine, base: BaseModel) -> None:
    for pause_s in (0.0, 0.01, 0.05, 0.2):
        future = engine.submit(request(base, chat("a?"), n=50, max_tokens=450))
        time.sleep(pause_s)
        future.cancel()
        wait_until(lambda: not (engine.rows or engine.waiting))


def test_a_listener_that_fails_ends_its_own_request_only(engine: Engine, base: BaseModel) -> None:
    def fail(delta: Delta) -> None:
        raise ConnectionError(delta.text)

    failing = engine.submit(request(base, chat("a?")), fail)
    other = engine.submit(request(base, chat("b")))
    with pytest.raises(ConnectionError):
        failing.result(PATIENCE_S)
    assert other.result(PATIENCE_S).choices[0].text


def test_an_answer_that_cannot_be_handed_over_fails_and_those_after_it_are_given(
    engine: Engine, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(_answer: Answer) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Answer, "choice", without_memory)
        with pytest.raises(MemoryError):
            engine.submit(request(base, chat("a?"))).result(PATIENCE_S)
    assert engine.submit(request(base, chat("a?"))).result(PATIENCE_S).choices[0].text


def test_logit_bias_bans_and_forces_tokens(engine: Engine, base: BaseModel) -> None:
    greedy = engine.complete(request(base, chat("a?"), temperature=0, max_tokens=1, logprobs=True, top_logprobs=2))
    first, second = (name for name, _, _ in greedy.choices[0].tokens[0].top)
    ids = {text: AutoTokenizer.from_pretrained(base.path)(text).input_ids[0] for text in (first, second)}
    banned = engine.complete(request(base, chat("a?"), temperature=0, max_tokens=1, logit_bias={ids[first]: -100}))
    assert banned.choices[0].text == second
    forced = engine.complete(request(base, chat("a?"), seed=1, max_tokens=5, logit_bias={ids[second]: 100}))
    assert forced.choices[0].text == second * 5


def with_padded_tables(base: BaseModel) -> BaseModel:
    """The model with more rows in its table than there are tokens, as makers have for round sizes.

    They are those of its tokens three times over, so that one of them is the likeliest everywhere.
    """
    config, weights = Path(base.path) / "config.json", Path(base.path) / "model.safetensors"
    tables = load_file(weights)
    own = tables["model.embed_tokens.weight"]
    tables["model.embed_tokens.weight"] = np.concatenate([own, 3 * own])
    save_file(tables, weights, {"format": "pt"})
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 2 * len(own)}))
    return base


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 2.0, "seed": 1}, {"top_p": 0.9, "seed": 2}])
def test_an_id_without_a_token_is_never_chosen_nor_told_and_keeps_its_probability(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    base, engine = with_padded_tables(text_base(tmp_path)), Engine()
    answer = engine.complete(request(base, chat("a?"), max_tokens=20, logprobs=True, top_logprobs=20, **how)).choices[0]
    engine.close()
    told = [token.token for token in answer.tokens] + [name for token in answer.tokens for name, _, _ in token.top]
    assert len(answer.tokens) == 20
    assert all(told)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    prompt = tokenizer.apply_chat_template(chat("a?"), add_generation_prompt=True, return_tensors="pt").input_ids
    with torch.inference_mode():
        own = AutoModelForCausalLM.from_pretrained(base.path)(prompt).logits[0, -1].log_softmax(-1)
    assert int(own.argmax()) >= len(tokenizer)
    assert answer.tokens[0].top[0][1] == pytest.approx(float(own[: len(tokenizer)].max()), abs=1e-4)


def test_a_frequency_penalty_ends_repetition(engine: Engine, base: BaseModel) -> None:
    ids = AutoTokenizer.from_pretrained(base.path)("abcdefgh").input_ids
    bias = dict.fromkeys(ids, 90.0)
    plain = engine.complete(request(base, chat("a?"), temperature=0, logit_bias=bias)).choices[0].text
    # Every use costs 200 together, more than any difference of the logits: no letter comes again before all others.
    spread = {"logit_bias": bias, "frequency_penalty": 2.0, "presence_penalty": 2.0}
    varied = engine.complete(request(base, chat("a?"), temperature=0, **spread)).choices[0].text
    assert len(set(varied)) > len(set(plain))


def test_a_token_id_beyond_the_vocabulary_is_refused(engine: Engine, base: BaseModel) -> None:
    with pytest.raises(PromptError, match="999999") as refused:
        engine.complete(request(base, chat("a?"), logit_bias={999999: 1}))
    assert refused.value.param == "logit_bias"


def test_a_closed_engine_ends_what_is_under_way(base: BaseModel) -> None:
    engine, begun = Engine(), threading.Event()
    future = engine.submit(request(base, chat("a?"), max_tokens=450), lambda delta: begun.set())
    assert begun.wait(PATIENCE_S)
    engine.close()
    with pytest.raises(BaseModelError, match="stopping"):
        future.result(PATIENCE_S)


def test_the_compute_threads_are_those_allowed_at_the_time(base: BaseModel) -> None:
    before: int = torch.get_num_threads()
    asked: list[int] = []

    def allowed(tokens: int) -> int:
        asked.append(tokens)
        return before

    made = Engine(threads=allowed).complete(request(base, chat("a?"), max_tokens=3))
    assert [tokens for tokens in asked if tokens] == [made.prompt_tokens, 1, 1]


def test_a_prompt_beyond_the_context_is_refused_and_its_neighbours_answered(engine: Engine, base: BaseModel) -> None:
    with pytest.raises(PromptError, match="maximum context length is 512 tokens") as refused:
        engine.complete(request(base, chat("word " * 600)))
    assert refused.value.code == "context_length_exceeded"
    assert engine.complete(request(base, chat("a?"))).choices[0].text


def test_a_fine_tuned_model_without_its_files_is_named_and_others_live_on(
    tmp_path: Path, engine: Engine, base: BaseModel
) -> None:
    gone = engine.submit(request(base, chat("a?"), adapter=tmp_path / "gone"))
    other = engine.submit(request(base, chat("a?")))
    with pytest.raises(BaseModelError, match="files are gone"):
        gone.result(PATIENCE_S)
    assert other.result(PATIENCE_S).choices[0].text
