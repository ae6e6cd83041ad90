"""Models of every family are trained and served as their makers meant: transformers and PEFT say the same of them.

The reference is transformers' own forward over transformers' own inputs, and plain PEFT; none of this server's code.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from finetune_assets.errors import UnfitModelError
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import GenerationRequest, ModelRef
from finetune_assets.server.model.front import load_front
from finetune_assets.server.model.network import load
from finetune_assets.server.training.loop import TrainingRequest, Watcher, train
from finetune_assets_tests.server.families import IMAGES, TEXT, image_model, text_model
from finetune_assets_tests.server.networks import chat, picture

TOLERANCE = 1e-4
_QUICK = {"Qwen3", "gpt-oss", "Gemma 2", "Granite", "Falcon-H1", "Phi-3 with LongRoPE", "DeepSeek-R1", "Mistral"}
_QUICK |= {"Qwen2.5-VL", "SmolVLM", "LLaVA", "Pixtral"}
_LONG = os.environ.get("FINETUNE_ASSETS_LONG_TESTS") == "1"
COLOURS = {"red": "Yes", "blue": "No"}

_TORCHVISION = importlib.util.find_spec("torchvision") is not None

pytestmark = pytest.mark.usefixtures("in_float32")


def some(families: dict[str, Any]) -> list[str]:
    return [name for name in families if _LONG or name in _QUICK]


def multi_turn(colour: str, *, sees: bool) -> list[dict[str, Any]]:
    """A conversation whose second answer names the colour that was shown or told."""
    first = chat("Really?", "No")
    if sees:
        return [*first, *chat("Is it red?", COLOURS[colour], picture(colour))]
    return [*first, *chat(f"Is {colour} red?", COLOURS[colour])]


def trained(base: BaseModel, folder: Path) -> Path:
    """A model that was fine-tuned on answers to both colours, in batches of two."""
    file = folder / "train.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps({"messages": multi_turn(c, sees=base.vision)}) for c in [*COLOURS] * 6))
    request = TrainingRequest(
        base=base, adapter=None, training_file=file, validation_file=None, output=folder / "out",
        state=folder / "state", n_epochs=10, batch_size=2, learning_rate_multiplier=8.0, seed=1,
    )  # fmt: skip
    result = train(request, Watcher())
    assert result is not None
    return result.model_dir


def likeliest(model: Any, inputs: dict[str, Any]) -> list[float]:
    with torch.no_grad():
        return model.eval()(**inputs).logits[0, -1].float().log_softmax(-1).topk(5).values.tolist()


def asked(base: BaseModel, adapter: Path | None, messages: list[dict[str, Any]], engine: Engine) -> Any:
    request = GenerationRequest(
        model=ModelRef(base, adapter), messages=messages, temperature=0, max_tokens=12, logprobs=True, top_logprobs=5
    )
    return engine.complete(request).choices[0]


def own_inputs(base: BaseModel, rendered: str, images: list[Any]) -> dict[str, Any]:
    """A rendered prompt as transformers itself makes inputs of it."""
    front = load_front(base)
    if front.processor is None:
        return dict(front.tokenizer(rendered, return_tensors="pt", add_special_tokens=False))
    bos = front.tokenizer.bos_token
    how = {"add_special_tokens": False} if bos and rendered.startswith(bos) else {}
    return dict(front.processor(text=[rendered], images=images or None, return_tensors="pt", **how))


def check_served_as_trained(base: BaseModel, folder: Path) -> None:
    """Base and fine-tuned model have the log-probabilities of transformers and PEFT, and the answers stop."""
    import transformers
    from peft import PeftModel

    engine = Engine()
    adapter = trained(base, folder)
    kind = transformers.AutoModelForImageTextToText if base.vision else transformers.AutoModelForCausalLM
    reference: Any = kind.from_pretrained(base.path, dtype=torch.float32)
    messages = multi_turn("red", sees=base.vision)[:-1]
    network = load(base)
    image = [{"type": "image"}] if base.vision else []
    last = (
        {"role": "user", "content": [{"type": "text", "text": "Is it red?"}, *image]} if base.vision else messages[-1]
    )
    said = {"role": "assistant", "content": [{"type": "text", "text": "No"}] if base.vision else "No"}
    first = {"role": "user", "content": [{"type": "text", "text": "Really?"}] if base.vision else "Really?"}
    rendered = network.template.prompt([first, said, last])
    inputs = own_inputs(base, rendered, [picture("red")] if base.vision else [])
    of_base = asked(base, None, messages, engine)
    assert [p for _, p, _ in of_base.tokens[0].top] == pytest.approx(likeliest(reference, inputs), abs=TOLERANCE)
    tuned = asked(base, adapter, messages, engine)
    plain_peft = likeliest(PeftModel.from_pretrained(reference, str(adapter)), inputs)
    assert [p for _, p, _ in tuned.tokens[0].top] == pytest.approx(plain_peft, abs=TOLERANCE)
    other = asked(base, adapter, multi_turn("blue", sees=base.vision)[:-1], engine)
    engine.close()
    assert {tuned.finish_reason, other.finish_reason} == {"stop"}
    assert {tuned.text, other.text} <= {"Yes", "No"}


@pytest.mark.parametrize("name", some(TEXT))
def test_a_text_model_is_trained_and_served_as_its_makers_meant(tmp_path: Path, name: str) -> None:
    base = text_model(name, tmp_path)
    assert (load(base).whole is None) == TEXT[name].taken_apart
    check_served_as_trained(base, tmp_path)


@pytest.mark.parametrize("name", [name for name in some(IMAGES) if name != "Pixtral" or _TORCHVISION])
def test_an_image_model_is_trained_and_served_as_its_makers_meant(tmp_path: Path, name: str) -> None:
    check_served_as_trained(image_model(name, tmp_path), tmp_path)


@pytest.mark.skipif(_TORCHVISION, reason="what is missed is here")
def test_a_model_whose_processor_needs_a_package_that_is_not_here_is_refused_by_name(tmp_path: Path) -> None:
    base = image_model("Pixtral", tmp_path)
    with pytest.raises(UnfitModelError, match="'Pixtral': its processor needs the package torchvision"):
        load(base)
