"""Models of every family are trained and served as their makers meant: transformers and PEFT say the same of them.

The reference is transformers' own forward over transformers' own inputs, and plain PEFT; none of this server's code.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import orjson
import pytest

from finetune_assets.errors import UnfitModelError
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.decision_requests import DecisionRequest
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import GenerationRequest, ModelRef
from finetune_assets.server.model.decision_encoding import Question
from finetune_assets.server.model.network import load
from finetune_assets.server.training.loop import train
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.watcher import Watcher
from finetune_assets_tests.long_tests import LONG
from finetune_assets_tests.patience import PATIENCE_S
from finetune_assets_tests.server.families import IMAGES, TEXT, image_model, text_model
from finetune_assets_tests.server.families.newer_images import NEWER
from finetune_assets_tests.server.families.reference import Reference
from finetune_assets_tests.server.networks import chat, picture

TOLERANCE = 1e-4
_QUICK = {"Qwen3", "gpt-oss", "Gemma 2", "Gemma 4", "Granite", "Falcon-H1", "Phi-3 with LongRoPE", "DeepSeek-R1"}
_QUICK |= {"Mistral v3", "Qwen2.5-VL", "SmolVLM", "Llama 3.2 Vision", "Pixtral", "PaliGemma"}
COLOURS = {"red": "Yes", "blue": "No"}
OPTIONS = ("Yes", "No", "Maybe so")
REFUSED = {
    "PaliGemma": "has no chat template",
    "PaliGemma with a template": "a text that grows has other logits",
}
if importlib.util.find_spec("torchvision") is None:
    REFUSED |= dict.fromkeys(("Pixtral", *{*NEWER} - {"Aya Vision"}), "its processor needs the package torchvision")

pytestmark = pytest.mark.usefixtures("in_float32")


def some(families: dict[str, Any]) -> list[str]:
    return [name for name in families if LONG or name in _QUICK]


def multi_turn(colour: str, *, sees: bool) -> list[dict[str, Any]]:
    """A conversation whose second answer names the colour that was shown or told."""
    first = chat("Really?", "No")
    if sees:
        return [*first, *chat("Is it red?", COLOURS[colour], picture(colour))]
    return [*first, *chat(f"Is {colour} red?", COLOURS[colour])]


def training_file(*, sees: bool) -> bytes:
    return b"\n".join(orjson.dumps({"messages": multi_turn(c, sees=sees)}) for c in [*COLOURS] * 6)


def trained(base: BaseModel, folder: Path) -> Path:
    """A model that was fine-tuned on answers to both colours, in batches of two."""
    file = folder / "train.jsonl"
    file.write_bytes(training_file(sees=base.vision))
    request = TrainingRequest(
        base=base, adapter=None, training_file=file, validation_file=None, output=folder / "out",
        state=folder / "state", n_epochs=10, batch_size=2, learning_rate_multiplier=8.0, seed=1,
    )  # fmt: skip
    result = train(request, Watcher())
    assert result is not None
    return result.model_dir


def asked(base: BaseModel, adapter: Path | None, messages: list[dict[str, Any]], engine: Engine) -> Any:
    request = GenerationRequest(
        model=ModelRef(base, adapter), messages=messages, temperature=0, max_tokens=12, logprobs=True, top_logprobs=5
    )
    return engine.complete(request).choices[0]


def decided(base: BaseModel, adapter: Path | None, messages: list[dict[str, Any]], engine: Engine) -> list[float]:
    request = DecisionRequest(model=ModelRef(base, adapter), messages=messages, questions=(Question([], OPTIONS),))
    return engine.decide(request).result(PATIENCE_S).log_probabilities[0]


def check_served_as_trained(base: BaseModel, folder: Path) -> None:
    """Base and fine-tuned model have the log-probabilities of transformers and PEFT, and the answers stop."""
    engine = Engine()
    adapter = trained(base, folder)
    messages, shown = multi_turn("red", sees=base.vision)[:-1], ("red",) if base.vision else ()
    for model in (None, adapter):
        reference = Reference(base, model)
        prompt = reference.prompt(messages)
        answer = asked(base, model, messages, engine)
        top = [p for _, p, _ in answer.tokens[0].top]
        assert top == pytest.approx(reference.likeliest(prompt, shown), abs=TOLERANCE)
        weighed = decided(base, model, messages, engine)
        assert weighed == pytest.approx(reference.options(prompt, OPTIONS, shown), abs=TOLERANCE)
    other = asked(base, adapter, multi_turn("blue", sees=base.vision)[:-1], engine)
    engine.close()
    assert {answer.finish_reason, other.finish_reason} == {"stop"}
    assert {answer.text.strip(), other.text.strip()} <= {"Yes", "No"}


@pytest.mark.parametrize("name", [name for name in some(TEXT) if not TEXT[name].unfit])
def test_a_text_model_is_trained_and_served_as_its_makers_meant(tmp_path: Path, name: str) -> None:
    base = text_model(name, tmp_path)
    assert (load(base).whole is None) == TEXT[name].taken_apart
    check_served_as_trained(base, tmp_path)


@pytest.mark.parametrize("name", [name for name in some(IMAGES) if name not in REFUSED])
def test_an_image_model_is_trained_and_served_as_its_makers_meant(tmp_path: Path, name: str) -> None:
    check_served_as_trained(image_model(name, tmp_path), tmp_path)


@pytest.mark.parametrize("name", [name for name in some(IMAGES) if name in REFUSED])
def test_what_cannot_be_served_as_its_makers_meant_is_refused_by_name_and_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnfitModelError, match=f"'{name}'.*{REFUSED[name]}"):
        load(image_model(name, tmp_path))
