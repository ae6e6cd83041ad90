"""Models learn a call and make it, with arguments one by one, as JSON, and in a channel of their own.

Long: their prompts describe the functions at length. What each way is, is tested without training (`test_answer_form`,
`test_answer_grammar`, `test_lessons`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from finetune_assets.server.generation.answer_grammar import Calling, Function
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import GeneratedChoice, GenerationRequest, ModelRef
from finetune_assets.server.model.tools import tools_of
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.watcher import Watcher
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.server.families import text_model
from finetune_assets_tests.server.networks import chat

pytestmark = [
    long,
    pytest.mark.usefixtures("in_float32"),
]
SCHEMA: dict[str, Any] = {
    "type": "object", "properties": {"answer": {"enum": ["Yes", "No"]}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"], "additionalProperties": False,
}  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "judge", "description": "Judge it.", "parameters": SCHEMA}}]
QUESTION, ARGUMENTS = "Is it fine?", {"answer": "Yes", "sure": True}
CALL = {"id": "call_1", "type": "function", "function": {"name": "judge", "arguments": json.dumps(ARGUMENTS)}}
CALLED = [*chat(QUESTION), {"role": "assistant", "content": None, "tool_calls": [CALL]}]


def ask(engine: Engine, model: ModelRef, messages: list[dict[str, Any]]) -> GeneratedChoice:
    asked = GenerationRequest(
        model=model, messages=messages, temperature=0, max_tokens=120, tools=tools_of({"tools": TOOLS}),
        calling=Calling((Function("judge", SCHEMA, strict=True),)),
    )  # fmt: skip
    return engine.complete(asked).choices[0]


@pytest.mark.parametrize("name", ["Qwen3.6", "Llama 3.1", "gpt-oss"])
def test_a_model_calls_what_it_has_learned_to_call(tmp_path: Path, name: str) -> None:
    base, file = text_model(name, tmp_path), tmp_path / "train.jsonl"
    file.write_bytes(b"\n".join([orjson.dumps({"messages": CALLED, "tools": TOOLS})] * 12))
    result = train(
        TrainingRequest(
            base=base, adapter=None, training_file=file, validation_file=None, output=tmp_path / "out",
            state=tmp_path / "state", n_epochs=12, batch_size=2, learning_rate_multiplier=8.0, seed=1,
        ),
        Watcher(),
    )  # fmt: skip
    assert result is not None
    engine = Engine()
    calls = ask(engine, ModelRef(base, result.model_dir), chat(QUESTION)).calls
    engine.close()
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("judge", ARGUMENTS)]
