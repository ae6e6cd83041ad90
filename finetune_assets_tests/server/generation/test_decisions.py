"""What decisions say of options, against the model's own forward over each option's whole text."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Callable
from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_assets.server.base_models import TEXT_MODEL, VISION_MODEL, BaseModel, resolve
from finetune_assets.server.generation import memory
from finetune_assets.server.generation.decision_requests import Decided, DecisionRequest
from finetune_assets.server.generation.decision_runs import _Run
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.option_trie import OptionTrie, normalised
from finetune_assets.server.generation.requests import ModelRef
from finetune_assets.server.model.chat_encoding import PromptError, Sequence
from finetune_assets.server.model.decision_encoding import Question
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.server.generation.asking import a_lora, request, trained_at_random
from finetune_assets_tests.server.networks import (
    Precision,
    bundled_vision_base,
    chat,
    computing_in,
    data_url,
    hub_vision_base,
    picture,
    text_base,
)

pytestmark = pytest.mark.usefixtures("in_float32")
ALIKE = ("Defective", "Deficient", "Defect", "No", "No finding", "Yes")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def asked(text: str, options: Several[str] = ("Yes", "No")) -> Question:
    return Question([{"type": "text", "text": text}] if text else [], tuple(options))


def decide(
    engine: Engine, base: BaseModel, messages: list[dict[str, Any]], *questions: Question, **how: Any
) -> Decided:
    adapter = how.pop("adapter", None)
    wanted = DecisionRequest(model=ModelRef(base, adapter), messages=messages, questions=questions, **how)
    return engine.decide(wanted).result(PATIENCE_S)


def by_whole_forwards(base: BaseModel, prompt: str, options: Several[str], adapter: Path | None = None) -> list[float]:
    """The sum of the log-probabilities of each option's tokens, from one forward each over prompt and option."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model = AutoModelForCausalLM.from_pretrained(base.path).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).eval()
    start = tokenizer(prompt, add_special_tokens=False).input_ids
    found = []
    for option in options:
        ids = tokenizer(option, add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = model(torch.tensor([start + ids])).logits[0].double().log_softmax(-1)
        found.append(sum(float(logits[len(start) + i - 1, token]) for i, token in enumerate(ids)))
    return found


def test_an_option_is_as_likely_as_all_its_tokens_together(engine: Engine, base: BaseModel) -> None:
    found = decide(engine, base, chat("Is it well?"), asked("", ("Yes", "Nothing at all", "Maybe", "Mine")))
    prompt = "<|im_start|>user\nIs it well?<|im_end|>\n<|im_start|>assistant\n"
    expected = by_whole_forwards(base, prompt, ("Yes", "Nothing at all", "Maybe", "Mine"))
    assert found.log_probabilities[0] == pytest.approx(expected, abs=1e-4)


def test_an_option_that_begins_a_longer_one_has_what_that_leaves(engine: Engine, base: BaseModel) -> None:
    (found,) = decide(engine, base, chat("Well?"), asked("", ALIKE)).log_probabilities
    plain = by_whole_forwards(base, "<|im_start|>user\nWell?<|im_end|>\n<|im_start|>assistant\n", ALIKE)
    rest = math.log(math.exp(plain[3]) - math.exp(plain[4]))  # No, without No finding
    assert found[3] == pytest.approx(rest, abs=1e-4)
    assert found[:2] + found[4:] == pytest.approx(plain[:2] + plain[4:], abs=1e-4)


def test_questions_about_one_input_are_answered_as_each_would_be_alone(
    engine: Engine, base: BaseModel, tmp_path: Path
) -> None:
    adapter = a_lora(base, tmp_path / "tuned", 1)
    questions = [asked(f"Is it {word}?", ALIKE[: 2 + n % 5]) for n, word in enumerate(["red", "a cat", "big"] * 9)]
    together = decide(engine, base, chat("A long story."), *questions, adapter=adapter).log_probabilities
    for question, found in zip(questions, together, strict=True):
        (alone,) = decide(engine, base, chat("A long story."), question, adapter=adapter).log_probabilities
        assert found == pytest.approx(alone, abs=1e-4)
    prompt = "<|im_start|>user\nA long story.\n\nIs it red?<|im_end|>\n<|im_start|>assistant\n"
    expected = by_whole_forwards(base, prompt, ALIKE[:2], adapter)
    assert together[0] == pytest.approx(expected, abs=1e-4)


def test_what_questions_begin_with_alike_is_read_once(engine: Engine, base: BaseModel) -> None:
    texts = ("Is it red?", "Is it red or blue?", "Is it red?", "Is")
    options = (("Yes", "No"), ALIKE, ("No", "Maybe"), ("it", "it is"))
    questions = [asked(*each) for each in zip(texts, options, strict=True)]
    together = decide(engine, base, chat("A tale."), *questions)
    apart = [decide(engine, base, chat("A tale."), each, keep=False) for each in questions]
    for found, alone in zip(together.log_probabilities, apart, strict=True):
        assert found == pytest.approx(alone.log_probabilities[0], abs=1e-4)
    twice = decide(engine, base, chat("A tale."), questions[0], questions[0])
    assert twice.input_tokens == apart[0].input_tokens


def test_a_question_longer_than_a_step_is_read_in_parts(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    long = asked("Is it " + "very " * 30 + "big?", ALIKE)
    whole = decide(Engine(), base, chat("A story."), long, asked("Big?")).log_probabilities
    usual = memory.budget(torch.device("cpu"))
    small = dataclasses.replace(usual, chunk=16)
    monkeypatch.setattr("finetune_assets.server.generation.reader.budget", lambda device: small)
    parts = decide(Engine(), base, chat("A story."), long, asked("Big?")).log_probabilities
    assert parts[0] == pytest.approx(whole[0], abs=1e-4)
    assert parts[1] == pytest.approx(whole[1], abs=1e-4)


@pytest.mark.parametrize("make", [bundled_vision_base, hub_vision_base])
def test_images_are_seen_in_the_input_and_in_a_question(
    make: Callable[[Path], BaseModel], engine: Engine, tmp_path: Path
) -> None:
    seeing = make(tmp_path)
    shown = {"type": "image_url", "image_url": {"url": data_url(picture("red"))}}
    in_question = Question([{"type": "text", "text": "Like this?"}, shown], ("Yes", "No"))
    red, blue = (
        decide(engine, seeing, chat("Look.", image=picture(color)), asked("Red?"), in_question).log_probabilities
        for color in ("red", "blue")
    )
    assert red[0] != blue[0]
    assert red[1] != blue[1]
    other = Question([in_question.parts[0], {**shown, "image_url": {"url": data_url(picture("blue"))}}], ("Yes", "No"))
    found = decide(engine, seeing, chat("Look.", image=picture("red")), asked("Red?"), other).log_probabilities
    assert found[0] == pytest.approx(red[0], abs=1e-4)
    assert found[1] != red[1]


def test_a_conversation_that_asks_itself_is_asked_as_completions_are(engine: Engine, tmp_path: Path) -> None:
    seeing = bundled_vision_base(tmp_path)
    tuned = trained_at_random(seeing, tmp_path / "tuned")
    messages = chat("Red? Yes or No.", image=picture("red"))
    for adapter in (None, tuned):
        made = engine.complete(
            request(seeing, messages, adapter, max_tokens=1, logprobs=True, top_logprobs=300, logit_bias={})
        )
        likely = {text: logprob for text, logprob, _ in made.choices[0].tokens[0].top}
        (found,) = decide(engine, seeing, messages, asked(""), adapter=adapter).log_probabilities
        assert found == pytest.approx([likely["Yes"], likely["No"]], abs=1e-4)


def test_an_input_is_read_once_and_answers_stay_the_same_bits(engine: Engine, base: BaseModel) -> None:
    messages, questions = chat("Something new."), [asked(f"Is it {n}?", ALIKE) for n in range(8)]
    first = decide(engine, base, messages, *questions)
    again = decide(engine, base, messages, *questions)
    assert again.log_probabilities == first.log_probabilities
    assert (first.cached_tokens, again.cached_tokens) == (0, first.kept_tokens)
    assert again.kept_tokens == 0
    assert first.input_tokens == again.input_tokens
    elsewhere = decide(engine, base, messages, *questions, partition="other", keep=False)
    assert (elsewhere.cached_tokens, elsewhere.kept_tokens) == (0, 0)
    assert elsewhere.log_probabilities == first.log_probabilities


def test_answers_are_the_same_bits_whatever_else_is_under_way(engine: Engine, base: BaseModel, tmp_path: Path) -> None:
    adapter = a_lora(base, tmp_path / "tuned", 2)
    questions = [asked(f"Is it {n}?", ALIKE) for n in range(4)]
    alone = decide(engine, base, chat("A thing."), *questions, keep=False, adapter=adapter).log_probabilities
    busy = [engine.submit(request(base, chat(f"tell {n}"), max_tokens=60)) for n in range(6)]
    many = [
        engine.decide(
            DecisionRequest(
                model=ModelRef(base, adapter if n % 2 else None), messages=chat("A thing."),
                questions=tuple(questions), keep=n % 3 == 0,
            )
        )
        for n in range(12)
    ]  # fmt: skip
    found = [future.result(PATIENCE_S).log_probabilities for future in many]
    assert all(each == alone for each in found[1::2])
    assert all(each == found[0] for each in found[::2])
    assert found[0] != alone
    assert all(future.result(PATIENCE_S).choices[0].text for future in busy)


def test_many_questions_are_shared_out_among_runs_and_stay_the_same_bits(engine: Engine, base: BaseModel) -> None:
    questions = tuple(asked(f"Is it number {n}?", ALIKE) for n in range(11))
    wanted = DecisionRequest(model=ModelRef(base, None), messages=chat("A thing."), questions=questions, keep=False)
    alone = engine.decide(wanted).result(PATIENCE_S)
    for future in [engine.decide(wanted) for _ in range(5)]:
        assert future.result(PATIENCE_S) == alone
    for n in (0, 5, 10):
        (found,) = decide(engine, base, chat("A thing."), questions[n]).log_probabilities
        assert alone.log_probabilities[n] == pytest.approx(found, abs=1e-4)


def test_runs_are_parted_by_questions_and_as_many_as_a_power_of_two() -> None:
    run = _Run([], 0)
    for number in range(20):
        run.add(number, Sequence([1, 2, 100 + number, 3, 4, 5, 6, 7]), OptionTrie([[8], [9]]))
    parts = run.parts()
    assert [list(part.questions) for part in parts] == [list(range(10)), list(range(10, 20))]
    assert [len(part.ids) for part in parts] == [62, 62] and len(run.ids) == 122
    assert [list(part.asked) for part in parts] == [[7 + 6 * n for n in range(10)]] * 2


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        (VISION_MODEL, "float32"),
        (TEXT_MODEL, "bfloat16"),
        pytest.param(VISION_MODEL, "bfloat16", marks=long),
        pytest.param(TEXT_MODEL, "float32", marks=long),
    ],
)
def test_the_bundled_models_answer_alone_and_in_company_with_the_same_bits(
    model: str, precision: Precision, tmp_path: Path
) -> None:
    with computing_in(precision):
        threads = itertools.cycle((1, 2))  # as a server has them while models are trained, and while none is
        engine, seeing = Engine(lambda _tokens: next(threads)), resolve(model, tmp_path)
        shown = [picture(color) if model == VISION_MODEL else None for color in ("red", "blue", "gray", "teal", "pink")]
        inputs = [chat(f"Is number {n} red? Yes or No.", image=image) for n, image in enumerate(shown)]
        wanted = [DecisionRequest(model=ModelRef(seeing, None), messages=m, questions=(asked(""),)) for m in inputs]
        alone = [engine.decide(each).result(PATIENCE_S).log_probabilities for each in wanted]
        writing = engine.submit(request(seeing, inputs[0], max_tokens=8))
        together = [engine.decide(wanted[n % 5]) for n in range(10)]
        assert [each.result(PATIENCE_S).log_probabilities for each in together] == alone * 2
        assert writing.result(PATIENCE_S).completion_tokens
        engine.close()


def test_options_that_are_the_same_tokens_are_refused(engine: Engine, base: BaseModel) -> None:
    with pytest.raises(PromptError, match="cannot tell the option 'Yes' from 'Yes'"):
        decide(engine, base, chat("a"), asked("b?", ("Yes", "No", "Yes")))


def test_what_is_longer_than_the_context_is_refused(engine: Engine, base: BaseModel) -> None:
    with pytest.raises(PromptError, match="maximum context length is 512 tokens"):
        decide(engine, base, chat("a " * 300), asked("b?"))


def test_probabilities_of_all_answers_that_may_come_add_up_to_what_is_certain() -> None:
    draw = random.Random(0)
    options = [[1, 2], [1], [1, 2, 3], [4], [1, 5, 6]]
    trie = OptionTrie(options)
    steps = {node: {token: math.log(draw.uniform(0.05, 0.3)) for token in trie.children[node]} for node in trie.inner}
    shares = [math.exp(value) for value in trie.log_probabilities(steps)]
    begins_so = math.exp(steps[0][1]) + math.exp(steps[0][4])  # every option begins with 1 or 4
    assert sum(shares) == pytest.approx(begins_so)
    assert sum(normalised(trie.log_probabilities(steps))) == pytest.approx(1)
