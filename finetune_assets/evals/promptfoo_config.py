"""A benchmark as a config of promptfoo: the same questions to the same models, right where the answer is the word.

Only for answers that are one of several words. promptfoo counts the word itself and nothing else, while the benchmark
reads answers; a fine-tuned model says the word.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml

from finetune_assets.asking.predictions import room
from finetune_assets.errors import ExportError
from finetune_assets.evals.benchmarked import Benchmarked
from finetune_assets.evals.templates import is_template
from finetune_assets.provider.client import find_provider
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, ScoreAnswer
from finetune_assets.training_file.chat_format import to_messages

FILE = "promptfooconfig.yaml"


def write(found: Benchmarked, folder: Path) -> Path:
    """Write `promptfooconfig.yaml`, and the images beside it.

    Raises:
        ExportError: promptfoo would judge these answers otherwise, or could not ask these questions.
    """
    task = found.task
    if not isinstance(task.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
        raise ExportError(
            f"an answer of the kind {task.answer.kind} is not right or wrong by one word, as promptfoo judges it; "
            "inspect_ai takes its scores: --as inspect"
        )
    conversations = list(found.conversations())
    prompt = _prompt(found, conversations)
    tests = [_test(found, number, conversation, folder) for number, conversation in enumerate(conversations)]
    config = {
        "description": f"{task.task}, {found.region.name}: {len(tests)} test examples of the benchmark",
        "prompts": [prompt],
        "providers": [_provider(found, answered.model, answered.role) for answered in found.models],
        "tests": tests,
    }
    path = folder / FILE
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120), "utf-8")
    return path


def _prompt(found: Benchmarked, conversations: Sequence[list[dict[str, Any]]]) -> str:
    """The prompt that asks every example, its parts as variables."""
    n_images = {len(_images(conversation)) for conversation in conversations}
    if n_images not in ({0}, {1}):
        raise ExportError("its questions show several images, or only some of them any: one prompt cannot ask them all")
    shots = [text for shot in found.task.prompt.shots for text in (shot.question, shot.answer)]
    if any(is_template(text) for text in [found.task.prompt.user, *shots, *map(_text, conversations)]):
        raise ExportError("a question or the prompt holds `{{`, `{%` or `{#`, which promptfoo would fill in")
    systems = {bool(_system(conversation)) for conversation in conversations}
    if len(systems) > 1:
        raise ExportError("only some of its questions have a system message: one prompt cannot ask them all")
    system = "{{system}}" if systems == {True} else ""
    image = "{{image}}" if n_images == {1} else None
    asked = to_messages(found.task.prompt, "{{question}}", image, system=system)
    return orjson.dumps(asked, option=orjson.OPT_INDENT_2).decode()


def _test(found: Benchmarked, number: int, conversation: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    row = found.models[0].rows[number]
    system = _system(conversation)
    variables = {"question": row.question, **({"system": system} if system else {})}
    for url in _images(conversation):
        variables["image"] = f"file://{_picture(url, folder, number)}"
    return {"vars": variables, "assert": [{"type": "equals", "value": row.truth}], "metadata": {"id": row.example_id}}


def _picture(url: str, folder: Path, number: int) -> str:
    """Write an image beside the config, and name it."""
    head, _, body = url.partition(",")
    kind = re.match(r"data:image/(\w+)", head)
    name = f"images/{number:05d}.{kind[1] if kind else 'png'}".replace(".jpeg", ".jpg")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(base64.b64decode(body))
    return name


def _provider(found: Benchmarked, model: str, role: str) -> dict[str, Any]:
    provider = find_provider(found.task.provider)
    if provider.name == "azure":
        raise ExportError("promptfoo asks Azure by a provider of its own: write it into the config by hand")
    config: dict[str, Any] = {"temperature": 0, "max_tokens": room(found.task.answer, ())}
    if found.base_url:
        config |= {"apiBaseUrl": found.base_url, "apiKeyEnvar": next(iter(provider.key_variables), "OPENAI_API_KEY")}
    return {"id": f"openai:chat:{model}", "label": role, "config": config}


def _system(conversation: list[dict[str, Any]]) -> str:
    return conversation[0]["content"] if conversation[0]["role"] == "system" else ""


def _images(conversation: list[dict[str, Any]]) -> list[str]:
    content = conversation[-1]["content"]
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"] if _parts(content) else []


def _parts(content: Any) -> bool:
    return isinstance(content, list)


def _text(conversation: list[dict[str, Any]]) -> str:
    """All that is said in it."""
    contents = [message["content"] for message in conversation]
    parts = [part for content in contents for part in (content if _parts(content) else [{"text": content}])]
    return "\n".join(part.get("text", "") for part in parts)
