from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.chat_encoding import PromptError
from finetune_assets.server.generation import Engine, Generation, GenerationRequest, ModelRef
from finetune_assets.server.training import TrainingRequest, train
from finetune_assets_tests.server.networks import bundled_vision_base, chat, hub_vision_base, picture, text_base
from finetune_assets_tests.server.test_training import write_examples


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseModel]:
    yield text_base(tmp_path_factory.mktemp("models"))


def request(
    base: BaseModel, messages: list[dict[str, Any]], adapter: Path | None = None, **how: Any
) -> GenerationRequest:
    return GenerationRequest(**{"model": ModelRef(base, adapter), "messages": messages, "max_tokens": 8, **how})


def all_at_once(engine: Engine, requests: list[GenerationRequest]) -> list[Generation]:
    made: dict[int, Generation] = {}
    threads = [
        threading.Thread(target=lambda i=i, r=r: made.__setitem__(i, engine.complete(r)))
        for i, r in enumerate(requests)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [made[i] for i in range(len(requests))]


def test_greedy_answers_are_those_of_transformers_own_generate(engine: Engine, base: BaseModel) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model: Any = AutoModelForCausalLM.from_pretrained(base.path)
    messages = chat("Is it fine?")
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    expected = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    made = engine.complete(request(base, messages, temperature=0))
    assert made.choices[0].text == tokenizer.decode(expected, skip_special_tokens=True)
    assert made.prompt_tokens == prompt["input_ids"].shape[1]


def test_logprobs_are_those_of_the_model(engine: Engine, base: BaseModel) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model: Any = AutoModelForCausalLM.from_pretrained(base.path)
    prompt = tokenizer.apply_chat_template(
        chat("a?"), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        expected = model(**prompt).logits[0, -1].log_softmax(-1).topk(3)
    asked = request(base, chat("a?"), temperature=0, max_tokens=1, logprobs=True, top_logprobs=3)
    (token,) = engine.complete(asked).choices[0].tokens
    assert [logprob for _, logprob, _ in token.top] == pytest.approx(expected.values.tolist(), abs=1e-4)
    assert token.logprob == token.top[0][1]
    assert token.bytes == token.top[0][2]


def test_a_batch_answers_as_one_by_one(engine: Engine, base: BaseModel) -> None:
    questions = ["a?", "Is it fine?", "What is the answer to a much longer question, please?", "b"]
    requests = [request(base, chat(question), temperature=0, logprobs=True) for question in questions]
    alone = [engine.complete(asked) for asked in requests]
    together = all_at_once(engine, requests)
    assert [made.choices[0].text for made in together] == [made.choices[0].text for made in alone]
    for one, other in zip(together, alone, strict=True):
        mine, reference = ([t.logprob for t in made.choices[0].tokens] for made in (one, other))
        assert mine == pytest.approx(reference, abs=1e-3)


def test_a_seed_repeats_a_sampled_answer(engine: Engine, base: BaseModel) -> None:
    def texts(seed: int) -> list[str]:
        made = engine.complete(request(base, chat("a?"), seed=seed, n=3))
        return [choice.text for choice in made.choices]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    assert len(set(texts(1))) > 1


def test_an_answer_ends_at_the_token_limit_or_before_a_stop_sequence(engine: Engine, base: BaseModel) -> None:
    whole = engine.complete(request(base, chat("a?"), temperature=0)).choices[0]
    assert whole.finish_reason == "length"
    stop = whole.text[3]
    cut = engine.complete(request(base, chat("a?"), temperature=0, stop=[stop])).choices[0]
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


def test_a_prompt_beyond_the_context_is_refused_and_its_neighbours_answered(engine: Engine, base: BaseModel) -> None:
    with pytest.raises(PromptError, match="maximum context length is 512 tokens") as refused:
        engine.complete(request(base, chat("word " * 600)))
    assert refused.value.code == "context_length_exceeded"
    assert engine.complete(request(base, chat("a?"))).choices[0].text


def test_a_fine_tuned_model_and_its_base_answer_side_by_side(tmp_path: Path, engine: Engine, base: BaseModel) -> None:
    tuned = train(
        TrainingRequest(
            base=base, adapter=None, training_file=write_examples(tmp_path / "train.jsonl", [("a?", "Yes")] * 12),
            validation_file=None, output=tmp_path / "out", n_epochs=6, batch_size=2,
            learning_rate_multiplier=40, seed=1,
        ),
        lambda progress: None,
    )  # fmt: skip
    before = engine.complete(request(base, chat("a?"), temperature=0)).choices[0].text
    answer = engine.complete(request(base, chat("a?"), adapter=tuned.model_dir, temperature=0)).choices[0]
    assert (answer.text, answer.finish_reason) == ("Yes", "stop")
    assert engine.complete(request(base, chat("a?"), temperature=0)).choices[0].text == before != "Yes"


@pytest.mark.parametrize("make_base", [bundled_vision_base, hub_vision_base])
def test_pictures_are_learned_and_told_apart(tmp_path: Path, engine: Engine, make_base: Any) -> None:
    base = make_base(tmp_path)
    shown = {"Yes": picture("white"), "No": picture("black")}
    lines = [("a?", answer, image) for answer, image in shown.items()] * 12
    tuned = train(
        TrainingRequest(
            base=base, adapter=None, training_file=write_examples(tmp_path / "train.jsonl", lines),
            validation_file=None, output=tmp_path / "out", n_epochs=10, batch_size=4,
            learning_rate_multiplier=20, seed=1,
        ),
        lambda progress: None,
    )  # fmt: skip
    asked = [request(base, chat("a?", image=image), adapter=tuned.model_dir, temperature=0) for image in shown.values()]
    assert [made.choices[0].text for made in all_at_once(engine, asked)] == list(shown)
