"""An answer is the same however it is computed: alone or in a batch, in one go or in parts, here or by transformers.

Sums in another order differ in their last bits. In float32 that moves no token here; in bfloat16, which keeps 8 bits,
it may.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation import memory, reader
from finetune_assets.server.generation.completion import BLOCK
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import Generation
from finetune_assets.server.model import adapters
from finetune_assets.server.model.chat_encoding import ImageFeatures, encode_prompt
from finetune_assets.server.model.network import load
from finetune_assets.server.model.own_forward import logits_at
from finetune_assets_tests.server.generation.asking import a_lora, all_at_once, request, trained_at_random
from finetune_assets_tests.server.networks import bundled_vision_base, chat, hub_vision_base, picture, text_base

QUESTIONS = ["a?", "Is it fine?", "What is the answer to a much longer question, please?", "b", "Is it fine, too?"]
pytestmark = pytest.mark.usefixtures("in_float32")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


@torch.inference_mode()
def generate_without_cache(base: BaseModel, adapter: Path | None, messages: list[dict[str, Any]]) -> str:
    """The greedy answer of 8 tokens, by a whole forward pass for each."""
    network = load(base)
    if adapter is not None:
        adapters.add_trainable(network, adapter, with_images=True)
    prompt = encode_prompt(network, messages, ImageFeatures(network))
    made: list[int] = []
    while len(made) < 8 and not (made and made[-1] in network.end_ids):
        ids = prompt.ids + made
        if network.whole:
            logits = logits_at(network.model, torch.tensor(ids), prompt.extras, torch.tensor([len(ids) - 1]))[0]
        else:
            logits = network.logits(network.states(network.embed([ids], [prompt.images]), 0)[0, -1])
        made.append(int(logits.argmax()))
    return network.tokenizer.decode(made, skip_special_tokens=True)


def generate_with_transformers(base: BaseModel, adapter: Path | None, conversations: list[Any]) -> list[str]:
    """The greedy answers of 8 tokens."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model: Any = AutoModelForCausalLM.from_pretrained(base.path)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    answers = []
    for messages in conversations:
        rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(rendered, return_tensors="pt")
        made = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(made, skip_special_tokens=True))
    return answers


def test_one_batch_of_base_and_fine_tuned_models_answers_as_transformers_generate(
    tmp_path: Path, engine: Engine, base: BaseModel
) -> None:
    models = [
        None,
        a_lora(base, tmp_path / "one", 1),
        a_lora(base, tmp_path / "two", 2, r=8, target_modules=["k_proj", "o_proj", "up_proj"], use_rslora=True),
    ]
    conversations = [chat(question) for question in QUESTIONS]
    asked = [
        request(base, messages, model, temperature=0, logit_bias={}) for messages in conversations for model in models
    ]
    made = [generation.choices[0].text for generation in all_at_once(engine, asked)]
    for place, model in enumerate(models):
        assert made[place :: len(models)] == generate_with_transformers(base, model, conversations)
    assert len(set(made)) > len(QUESTIONS)


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
    lengths = [3, 40, 17, 8, 25]
    requests = [
        request(base, chat(question), temperature=0, logprobs=True, max_tokens=length)
        for question, length in zip(QUESTIONS, lengths, strict=True)
    ]
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


def test_a_seeded_draw_does_not_depend_on_its_neighbours(engine: Engine, base: BaseModel) -> None:
    asked = request(base, chat("a?"), seed=3, temperature=1.3, top_p=0.9)
    alone = engine.complete(asked)
    among = all_at_once(engine, [request(base, chat("b"), seed=4), asked, request(base, chat("c"), top_p=0.5)])[1]
    assert among == Generation(alone.choices, alone.prompt_tokens, alone.completion_tokens, among.cached_tokens)


def test_known_beginnings_are_not_read_again_and_change_no_answer(base: BaseModel) -> None:
    instruction: list[dict[str, Any]] = [{"role": "system", "content": "Answer with one word, always the same. " * 3}]
    asked = [request(base, instruction + chat(q), temperature=0, logprobs=True) for q in QUESTIONS]
    cold = [Engine().complete(one) for one in asked]
    warm_engine = Engine()
    warm = [warm_engine.complete(one) for one in asked]
    again = [warm_engine.complete(one) for one in asked]
    assert [made.cached_tokens for made in cold] == [0] * len(asked)
    assert warm[0].cached_tokens == 0
    assert all(made.cached_tokens >= 64 for made in warm[1:])
    assert all(0 <= made.prompt_tokens - made.cached_tokens - 1 < BLOCK for made in again)
    for one, other in [*zip(cold, warm, strict=True), *zip(cold, again, strict=True)]:
        assert one.choices[0].text == other.choices[0].text
        ours, its = ([t.logprob for t in made.choices[0].tokens] for made in (one, other))
        assert ours == pytest.approx(its, abs=1e-3)


def test_equal_prompts_that_arrive_together_are_read_once(base: BaseModel) -> None:
    messages = chat("Is it fine? " * 10)
    made = all_at_once(Engine(), [request(base, messages, temperature=0) for _ in range(4)])
    assert sorted(generation.cached_tokens for generation in made)[1:] == [made[0].prompt_tokens // BLOCK * BLOCK] * 3
    assert len({generation.choices[0].text for generation in made}) == 1


def test_a_long_prompt_is_read_in_parts_with_the_same_result(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [request(base, chat(text), temperature=0, max_tokens=30) for text in ("word " * 80, "a?", "word " * 60)]
    whole = [generation.choices[0].text for generation in all_at_once(Engine(), asked)]
    monkeypatch.setattr(reader, "budget", lambda device: replace(memory.budget(device), chunk=7))
    assert [generation.choices[0].text for generation in all_at_once(Engine(), asked)] == whole


def test_more_answers_than_rows_or_memory_are_made_in_turns(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [request(base, chat(f"{i}?"), seed=i, n=4, max_tokens=120) for i in range(3)]
    plenty = [generation.choices for generation in all_at_once(Engine(), asked)]
    small = replace(memory.budget(torch.device("cpu")), rows=6, rows_bytes=4 * 128 * 512)
    monkeypatch.setattr(reader, "budget", lambda device: small)
    assert [generation.choices for generation in all_at_once(Engine(), asked)] == plenty


@pytest.mark.parametrize("make_base", [bundled_vision_base, hub_vision_base])
def test_pictures_are_seen_by_the_base_and_by_fine_tuned_models_in_one_batch(
    tmp_path: Path, engine: Engine, make_base: Any
) -> None:
    base = make_base(tmp_path)
    tuned = trained_at_random(base, tmp_path / "tuned")
    pictures = [picture("white"), picture("black"), picture("red", (300, 200))]
    asked = [(chat("a?", image=image), adapter) for image in pictures for adapter in (None, tuned)]
    made = all_at_once(
        engine, [request(base, messages, adapter, temperature=0, logit_bias={}) for messages, adapter in asked]
    )
    expected = [generate_without_cache(base, adapter, messages) for messages, adapter in asked]
    assert [generation.choices[0].text for generation in made] == expected
    assert len(set(expected)) > 2
