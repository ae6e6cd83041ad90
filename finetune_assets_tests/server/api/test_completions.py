"""/v1/completions: what a model goes on with, and how probable it finds a text."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from finetune_assets.server.model.precision import device_and_dtype
from finetune_assets_tests.server_process import ServerProcess

pytestmark = [pytest.mark.xdist_group("training"), pytest.mark.precision]
NO_END = {"0": -100, "1": -100, "2": -100}


def go_on(client: openai.OpenAI, prompt: Any, model: str = "tiny-text", **how: Any) -> Any:
    create: Any = client.completions.create
    return create(**({"model": model, "prompt": prompt, "temperature": 0, "logit_bias": NO_END} | how))


@pytest.fixture(scope="module")
def reference(server: ServerProcess) -> Any:
    """transformers' own model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = server.home / "tiny-text"
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    return model.eval(), AutoTokenizer.from_pretrained(path)


def test_an_echoed_text_has_the_log_probabilities_that_transformers_give_it(
    client: openai.OpenAI, reference: Any
) -> None:
    import torch

    model, tokenizer = reference
    ids = tokenizer("Is it? Yes, it is").input_ids
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    own = [float(expected[place, token]) for place, token in enumerate(ids[1:])]
    # As lm-eval asks: ids, one token more than is wanted, and of each place the likeliest token.
    (choice,) = go_on(client, ids, max_tokens=1, echo=True, logprobs=1).choices
    told = choice.logprobs
    assert told.token_logprobs[0] == 0
    # bfloat16 keeps logits of 8 to 16 in steps of 1/16, and a log-probability is the difference of two.
    near = 1e-4 if device_and_dtype()[1] is torch.float32 else 2 / 16
    assert told.token_logprobs[1:-1] == pytest.approx(own, abs=near)
    best = [max(likeliest.values()) for likeliest in told.top_logprobs[1:-1]]
    assert best == pytest.approx(expected[:-1].max(-1).values.tolist(), abs=near)
    assert choice.text.startswith("Is it? Yes, it is")
    assert "".join(told.tokens[:-1]) == "Is it? Yes, it is"
    assert told.text_offset[:3] == [len("".join(told.tokens[:n])) for n in range(3)]


def test_a_text_may_be_scored_and_nothing_made(client: openai.OpenAI) -> None:
    answer = go_on(client, "Yes No", max_tokens=0, echo=True, logprobs=0)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("Yes No", "length")
    assert len(choice.logprobs.tokens) == answer.usage.prompt_tokens
    assert answer.usage.completion_tokens == 0


def test_several_texts_are_gone_on_with_at_once(client: openai.OpenAI) -> None:
    together = go_on(client, ["Is it?", "Yes"], max_tokens=4, n=2).choices
    assert [choice.index for choice in together] == [0, 1, 2, 3]
    assert together[0].text == together[1].text
    assert together[2].text == go_on(client, "Yes", max_tokens=4).choices[0].text
    assert together[0].logprobs is None


def test_a_fine_tuned_model_scores_by_what_it_has_learned(client: openai.OpenAI, finished: FineTuningJob) -> None:
    text = "<|im_start|>user\nIs 3 fine?<|im_end|>\n<|im_start|>assistant\nYes"
    base, tuned = (
        go_on(client, text, model, max_tokens=0, echo=True, logprobs=0).choices[0].logprobs.token_logprobs[-1]
        for model in ("gpt-4o-mini", finished.fine_tuned_model or "")
    )
    assert tuned > base


def test_the_token_that_ends_an_answer_is_told_of_and_not_said(client: openai.OpenAI, finished: FineTuningJob) -> None:
    """Harnesses ask for one token more than they score and leave the last one away."""
    text = "<|im_start|>user\nIs 3 fine?<|im_end|>\n<|im_start|>assistant\nYes"
    asked = {"echo": True, "logprobs": 1, "logit_bias": {}}
    scored, gone_on = (
        go_on(client, text, finished.fine_tuned_model or "", max_tokens=n, **asked).choices[0] for n in (0, 1)
    )
    assert (gone_on.text, gone_on.finish_reason) == (text, "stop")
    assert gone_on.logprobs.tokens == [*scored.logprobs.tokens, "<|im_end|>"]
    assert gone_on.logprobs.text_offset[-1] == len("".join(scored.logprobs.tokens)) - len(
        "<|im_start|>" * 2 + "<|im_end|>"
    )


@pytest.mark.parametrize(
    ("how", "param"),
    [
        ({"stream": True}, "stream"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"prompt": [9_999]}, "prompt"),
        ({"prompt": "a" * 5_000}, "prompt"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_what_is_not_served_is_refused_by_name(client: openai.OpenAI, how: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        go_on(client, **({"prompt": "a"} | how))
    assert refused.value.param == param
