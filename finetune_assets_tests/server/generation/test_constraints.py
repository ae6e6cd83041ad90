from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.constraints import Grammars, forbid
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import Generation, GenerationRequest, ModelRef
from finetune_assets.server.model.chat_encoding import PromptError
from finetune_assets.server.model.network import Network, load
from finetune_assets_tests.server.networks import chat, text_base

VERDICT = {
    "type": "object",
    "properties": {
        "defect": {"type": "boolean"},
        "kind": {"enum": ["crack", "dark area"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["defect", "kind", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return text_base(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def network(base: BaseModel) -> Network:
    return load(base)


@pytest.fixture(scope="module")
def grammars(network: Network) -> Grammars:
    return Grammars(network.tokenizer, network.vocabulary, network.end_ids)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def ask(engine: Engine, base: BaseModel, schema: dict[str, Any], **how: Any) -> list[Generation]:
    requests = [
        GenerationRequest(model=ModelRef(base, None), messages=chat(f"{i}?"), json_schema=schema, seed=i, **how)
        for i in range(6)
    ]
    return [future.result(60) for future in [engine.submit(request) for request in requests]]


def fits(grammars: Grammars, network: Network, text: str) -> bool:
    matcher = grammars.matcher({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    return matcher.consume_tokens(network.tokenizer(text).input_ids) and matcher.is_accepting()


def test_a_model_of_random_weights_answers_in_json_that_fits(engine: Engine, base: BaseModel) -> None:
    for made in ask(engine, base, VERDICT, max_tokens=200, temperature=1.5):
        choice = made.choices[0]
        answer = json.loads(choice.text)
        assert choice.finish_reason == "stop"
        assert set(answer) == {"defect", "kind", "count"}
        assert answer["kind"] in ("crack", "dark area")
        assert isinstance(answer["defect"], bool)
        assert answer["count"] in range(10)


def test_only_the_token_limit_cuts_the_json(engine: Engine, base: BaseModel) -> None:
    for made in ask(engine, base, VERDICT, max_tokens=5):
        assert made.choices[0].finish_reason == "length"
        assert made.completion_tokens == 5


@pytest.mark.parametrize("text", ['{"a":1}', '{"a": 1}', '{\n  "a": 1\n}'])
def test_usual_layouts_fit(grammars: Grammars, network: Network, text: str) -> None:
    assert fits(grammars, network, text)


@pytest.mark.parametrize("text", ['{"a":  1}', '{"a":\n\n1}', ' {"a":1}', '{"a":1', '{"a":"x"}'])
def test_endless_blanks_and_wrong_values_do_not_fit(grammars: Grammars, network: Network, text: str) -> None:
    assert not fits(grammars, network, text)


def test_the_end_is_forbidden_until_the_json_is_complete(grammars: Grammars, network: Network) -> None:
    matcher = grammars.matcher({"type": "integer"})
    (end,) = network.end_ids
    allowed = []
    for text in ("1", "2"):
        logits = torch.zeros(2, network.vocabulary)
        forbid(logits, [(1, matcher)])
        assert logits[0].isfinite().all()
        allowed.append(bool(logits[1, end].isfinite()))
        matcher.consume_tokens(network.tokenizer(text).input_ids)
    assert allowed == [False, True]


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "#/$defs/none"}, {"not": {"type": "string"}}, {"$ref": "http://x.org/y"}]
)
def test_a_schema_that_cannot_be_enforced_is_refused(grammars: Grammars, schema: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match="Invalid schema for response_format") as refused:
        grammars.matcher(schema)
    assert (refused.value.param, refused.value.code) == ("response_format", "invalid_json_schema")


def test_a_bias_that_forbids_what_the_schema_needs_is_refused(
    engine: Engine, base: BaseModel, network: Network
) -> None:
    (brace,) = network.tokenizer("{").input_ids
    with pytest.raises(PromptError, match="leaves no token"):
        ask(engine, base, VERDICT, logit_bias={brace: -100})
