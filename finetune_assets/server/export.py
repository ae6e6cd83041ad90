"""A fine-tuned model for other tools: a PEFT folder, merged weights or GGUF, with what shows that they answer the same.

The parity check asks the model as this server serves it, and what was written as transformers and PEFT load it; its
result lies beside the weights.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetune_assets.errors import ExportError
from finetune_assets.server import catalog, checksums
from finetune_assets.server.catalog import FoundModel
from finetune_assets.server.database.stores import Stores

if TYPE_CHECKING:
    from finetune_assets.server.generation.requests import GeneratedChoice
    from finetune_assets.server.model.network import Network

PARITY = "parity.json"
GGUF = "model.gguf"
Form = Literal["adapter", "merged", "gguf"]
_LIBRARIES: dict[Form, str] = {"adapter": "peft", "merged": "transformers", "gguf": "gguf"}
_QUESTIONS = ("Is it so?", "What is the answer?", "Say in one word: yes or no?")
_TOP, _TOKENS = 5, 8
_TOLERANCE = 1e-3
"""Of log-probabilities in float32."""
_CARD = """\
---
base_model: {base}
library_name: {library}
---
# {name}

Made by finetune_assets. {PARITY} says how its answers compare with those of the server that trained it.
"""
_ADAPTER_OF_4_BIT = """
It was trained on {base} with its linear layers in 4 bit. Load that so; on the model in full its answers are others:

```python
AutoModelForCausalLM.from_pretrained("{base}", quantization_config=BitsAndBytesConfig(**{how}))
```
"""
_MERGED_IN_4_BIT = """
It was trained on {base} with its linear layers in 4 bit. What it learned is merged into these layers as they are in 4
bit, written in full, and not into those of {base}: so it answers as it was trained to.
"""


@dataclass(frozen=True, slots=True)
class Parity:
    """How what was written compares with what is served, in float32."""

    model: str
    form: Form
    prompts: int
    same_answers: int
    """Greedy answers of 8 tokens that are equal."""
    largest_difference: float
    """Of the log-probabilities of the 5 likeliest first tokens, in nats."""
    base_in_4_bit: bool = False
    """Whether its base is in 4 bit as served; merged weights are then those of 4 bit, written in full."""

    @property
    def holds(self) -> bool:
        """Whether both are the same model."""
        return self.largest_difference <= _TOLERANCE and self.same_answers == self.prompts


def export(home: Path, name: str, folder: Path, form: Form = "adapter") -> Parity:
    """Write a fine-tuned model to `folder`, which must be new, and compare it with what is served.

    Raises:
        BaseModelError: there is no such model.
        ExportError: the folder is there, or other tools could not load the model.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} is not empty; name a new folder")
    found, adapter = _exportable(home, name)
    if form == "gguf":
        _check_gguf(found, name)
    return write(found, adapter, name, folder, form)


def write(found: FoundModel, adapter: Path, name: str, folder: Path, form: Form) -> Parity:
    """Write a model that can be exported so, and compare it with what is served."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(found, adapter, folder, form, name)
    written = _with_adapter(found, folder) if form == "adapter" else _plain(found, str(folder), form)
    parity = _compare(found, name, written, form)
    (folder / "README.md").write_text(_card(found, name, written, form))
    (folder / PARITY).write_text(json.dumps(asdict(parity) | {"holds": parity.holds}, indent=1))
    return parity


def _exportable(home: Path, name: str) -> tuple[FoundModel, Path]:
    stores = Stores(home)
    try:
        found = catalog.find(stores, name)
    finally:
        stores.close()
    if found.adapter is None:
        raise ExportError(f"{name!r} is a base model: it lies at {found.base.path}")
    if found.base.vision and found.base.bundled:
        raise ExportError(
            f"{name!r} sees by parts of this server's own, which no other tool loads; export a text model"
        )
    return found, found.adapter


def _check_gguf(found: FoundModel, name: str) -> None:
    """Refuse what llama.cpp would read otherwise, before anything is written."""
    from finetune_assets.server.model import gguf_file
    from finetune_assets.server.model.front import load_front

    gguf_file.check(_config(found), load_front(found.base).tokenizer, name)


def _config(found: FoundModel) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(found.base.path, revision=found.base.revision)


def _write(found: FoundModel, adapter: Path, folder: Path, form: Form, name: str) -> None:
    from finetune_assets.server.model import gguf_file
    from finetune_assets.server.model.front import load_front

    front = load_front(found.base)
    if form == "gguf":
        gguf_file.write(_merged(found, adapter), front.tokenizer, folder / GGUF, name)
        return
    front.renderer.save_pretrained(str(folder))
    if form == "merged":
        _merged(found, adapter).save_pretrained(str(folder))
        return
    checksums.check(adapter)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, folder / name)


def _plain(found: FoundModel, path: str, form: Form = "merged") -> Any:
    """A model as transformers load it, in float32."""
    import torch
    import transformers

    from finetune_assets.server.model.front import load_front
    from finetune_assets.server.model.network import read

    if found.base.four_bit and path == found.base.path:
        return read(found.base, load_front(found.base), torch.device("cpu"), torch.float32).eval()
    kind = transformers.AutoModelForImageTextToText if found.base.vision else transformers.AutoModelForCausalLM
    revision = found.base.revision if path == found.base.path else None
    # Of a GGUF transformers read the weights and not all of its settings, which are the base model's.
    file: dict[str, Any] = {"gguf_file": GGUF, "config": _config(found)} if form == "gguf" else {}
    return kind.from_pretrained(path, dtype=torch.float32, revision=revision, **file).eval()


def _with_adapter(found: FoundModel, folder: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(_plain(found, found.base.path), str(folder)).eval()


def _merged(found: FoundModel, adapter: Path) -> Any:
    """The whole model in full, with what the adapter has learned."""
    from peft import PeftModel

    base = _plain(found, found.base.path)
    if found.base.four_bit:  # merged as they are, layers in 4 bit would lose most of what was learned
        base = base.dequantize()
        base.is_loaded_in_4bit = False
    return PeftModel.from_pretrained(base, str(adapter)).eval().merge_and_unload()


def _card(found: FoundModel, name: str, written: Any, form: Form) -> str:
    base = found.base.path
    card = _CARD.format(base=base, library=_LIBRARIES[form], name=name, PARITY=PARITY)
    if not found.base.four_bit:
        return card
    if form != "adapter":
        return card + _MERGED_IN_4_BIT.format(base=base)
    how = written.config.quantization_config.to_diff_dict()
    return card + _ADAPTER_OF_4_BIT.format(base=base, how={name: value for name, value in how.items() if value})


def _compare(found: FoundModel, name: str, written: Any, form: Form) -> Parity:
    from finetune_assets.server.model.network import load

    network = load(found.base)
    conversations = [_conversation(question, shown=found.base.vision) for question in _QUESTIONS]
    differences, same = [], 0
    for messages, served in zip(conversations, _served(found, conversations), strict=True):
        answer, likeliest = _answer(network, written, messages)
        top = served.tokens[0].top if served.tokens else []
        differences += [abs(ours - its) for (_, ours, _), its in zip(top, likeliest, strict=False)]
        same += answer == served.text
    largest = max(differences, default=float("nan"))
    return Parity(name, form, len(conversations), same, largest, found.base.four_bit)


def _conversation(question: str, *, shown: bool) -> list[dict[str, Any]]:
    if not shown:
        return [{"role": "user", "content": question}]
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


def _served(found: FoundModel, conversations: list[list[dict[str, Any]]]) -> list[GeneratedChoice]:
    from finetune_assets.server.generation.engine import Engine
    from finetune_assets.server.generation.requests import GenerationRequest, ModelRef

    engine = Engine()
    how: dict[str, Any] = {"temperature": 0, "max_tokens": _TOKENS, "logprobs": True, "top_logprobs": _TOP}
    try:
        return [
            engine.complete(
                GenerationRequest(model=ModelRef(found.base, found.adapter), messages=messages, **how)
            ).choices[0]
            for messages in conversations
        ]  # fmt: skip
    finally:
        engine.close()


def _answer(network: Network, written: Any, messages: list[dict[str, Any]]) -> tuple[str, list[float]]:
    """The greedy answer of what was written, and the log-probabilities of its likeliest first tokens."""
    import torch

    from finetune_assets.server.generation.tokens import TextStream
    from finetune_assets.server.model.chat_encoding import ImageFeatures, encode_prompt
    from finetune_assets.server.model.own_forward import logits_at

    prompt = encode_prompt(network, messages, ImageFeatures(network))
    ids, text = list(prompt.ids), TextStream(network.tokenizer, network.template.around()[0])
    said, likeliest = "", []
    with torch.inference_mode():
        for _ in range(_TOKENS):
            logits = logits_at(written, torch.tensor(ids), prompt.extras, torch.tensor([len(ids) - 1]))[0]
            likeliest = likeliest or logits.log_softmax(-1).topk(_TOP).values.tolist()
            token = int(logits.argmax())
            if token in network.end_ids:
                break
            ids.append(token)
            said += text.add(token)
    return said + text.rest(), likeliest
