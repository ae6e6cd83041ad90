"""From chat messages to token ids, for training and generation alike.

The model's own chat template renders the messages; what an assistant turn adds to the rendered text is what
training learns. Tokens are made piece by piece between those borders, so that the trained answer is
tokenised exactly as it is when generated.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from finetune_assets.dataset import images
from finetune_assets.errors import BaseModelError, FinetuneAssetsError, ImageError
from finetune_assets.server.model import remote_images
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.plain_text import Fence, UnfencedError

IMAGE_SLOT = -1
_TEMPLATE_ROLES = {"developer": "system", "function": "tool"}


class PromptError(FinetuneAssetsError, ValueError):
    """A request that this model cannot take. `code` is OpenAI's error code, `param` the request's field."""

    def __init__(self, message: str, code: str, param: str = "messages") -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass
class Sequence:
    """Token ids with, for each, whether training learns to predict it."""

    ids: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    """Features of its images, `[slots, d_features]` each, in order of their slots."""

    def append(self, ids: list[int], *, learned: bool) -> None:
        """Add `ids` at the end."""
        self.ids += ids
        self.learned += [learned] * len(ids)


class ImageSource(Protocol):
    """Where the features of images come from."""

    def of(self, data_url: str, /) -> Tensor:
        """`[slots, d_features]` of the image."""
        ...


class ImageFeatures:
    """Features by image content, so that each image passes the vision tower once. Threads may share it.

    Those used last stay, up to `budget_bytes`; all of them without a budget.
    """

    def __init__(self, network: Network, budget_bytes: int | None = None) -> None:
        self.network = network
        self.budget_bytes = budget_bytes
        self._bytes = 0
        self._cached: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, data_url: str) -> Tensor:
        """`[slots, d_features]` of the image.

        Raises:
            PromptError: the model takes no images, or this is not one it can read.
        """
        vision = self.network.vision
        if vision is None:
            raise PromptError(f"the model {self.network.base.name!r} takes no images", "invalid_image")
        data = _image_bytes(data_url)
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            if digest not in self._cached:
                try:
                    self._cached[digest] = vision.features(images.decode(data))
                except ImageError as error:
                    raise PromptError(f"an image cannot be used: {error}", "invalid_image") from error
                self._bytes += self._cached[digest].nbytes
            self._cached.move_to_end(digest)
            while self.budget_bytes is not None and self._bytes > self.budget_bytes and len(self._cached) > 1:
                self._bytes -= self._cached.popitem(last=False)[1].nbytes
            return self._cached[digest]


def has_remote_images(messages: list[dict[str, Any]]) -> bool:
    """Whether an image has yet to be fetched from another server."""
    return any(_is_remote(part["image_url"]["url"]) for part in _image_parts(messages))


def with_fetched_images(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the bytes of remote images in place of their URLs, as data URLs.

    Raises:
        PromptError: one cannot be fetched.
    """
    messages = copy.deepcopy(messages)
    for part in _image_parts(messages):
        if _is_remote(url := part["image_url"]["url"]):
            payload = base64.b64encode(_image_bytes(url)).decode()
            part["image_url"] = {"url": f"data:image/fetched;base64,{payload}"}
    return messages


def encode_prompt(network: Network, messages: list[dict[str, Any]], features: ImageSource) -> Sequence:
    """The prompt up to where the assistant's answer begins; nothing of it is learned.

    Raises:
        PromptError: the model cannot take it, or it is longer than the model's context whatever its tokens are.
    """
    with _told_of_fences():
        fence = Fence.around(network.tokenizer, messages, _marker(network))
        plain, urls = _plain(messages, _marker(network), fence)
        text = _render(network.tokenizer, network.base.name, plain, None, prompt=True)
    if len(text) > network.max_length * network.longest_token:
        message = f"This model's maximum context length is {network.max_length} tokens; your messages have far more."
        raise PromptError(message, "context_length_exceeded")
    sequence = Sequence()
    with _told_of_fences():
        _append_text(sequence, network, text, urls, features, fence)
    return sequence


def encode_example(
    network: Network, messages: list[dict[str, Any]], features: ImageSource, tools: list[dict[str, Any]] | None = None
) -> Sequence:
    """A whole conversation; every assistant turn is learned, up to its end token, unless its `weight` is 0.

    Raises:
        PromptError: the model cannot take it: an image, or something its chat template leaves out.
    """
    sequence = Sequence()
    with _told_of_fences():
        fence = Fence.around(network.tokenizer, [messages, tools], _marker(network))
        plain, urls = _plain(messages, _marker(network), fence)
        for turn in rendered_turns(network.tokenizer, network.base.name, plain, fence.hide(tools)):
            urls = _append_text(sequence, network, turn.before, urls, features, fence)
            answer = fence.tokens(turn.answer)
            ends = [place for place, token in enumerate(answer) if token in network.end_ids]
            kept = ends[0] + 1 if ends else len(answer)
            sequence.append(answer[:kept], learned=messages[turn.place].get("weight", 1) != 0)
            sequence.append(answer[kept:], learned=False)
    return sequence


def check_rendering(
    tokenizer: Any, model: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> None:
    """See whether a model's chat template renders everything in a conversation, without the model's weights.

    Raises:
        PromptError: it leaves something out.
    """
    with _told_of_fences():
        fence = Fence.around(tokenizer, [messages, tools])
        for turn in rendered_turns(tokenizer, model, _plain(messages, "", fence)[0], fence.hide(tools)):
            fence.tokens(turn.before + turn.answer)


@dataclass(frozen=True, slots=True)
class Turn:
    """An assistant's turn as the chat template renders it."""

    place: int
    """Which of the messages it is."""
    before: str
    """What stands between the assistant's turn before and this one's answer."""
    answer: str


def rendered_turns(
    tokenizer: Any, model: str, plain: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> Iterator[Turn]:
    """Render a conversation turn by turn.

    Raises:
        PromptError: the template cannot render it, or leaves a part of it out.
        BaseModelError: the template rewrites earlier turns, so that it cannot be trained.
    """
    rendered = ""
    for place, message in enumerate(plain):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, model, plain[:place], tools, prompt=True)
        after = _render(tokenizer, model, plain[: place + 1], tools, prompt=False)
        if not (before.startswith(rendered) and after.startswith(before)):
            raise BaseModelError(f"the chat template of {model!r} rewrites earlier turns; it cannot be trained")
        for call in message.get("tool_calls", ()):
            _must_contain(after[len(before) :], call["function"]["name"], "tool_calls", model)
        yield Turn(place, before[len(rendered) :], after[len(before) :])
        rendered = after
    for message in plain:
        _must_contain(rendered, message["content"].strip(), f"messages of the role {message['role']}", model)
    for tool in tools or ():
        _must_contain(rendered, tool["function"]["name"], "tools", model)


def _must_contain(rendered: str, content: str, what: str, model: str) -> None:
    # Some templates write what a tool has said as a JSON string.
    if content not in rendered and json.dumps(content)[1:-1] not in rendered:
        message = f"the chat template of the model {model!r} leaves out {what}; train a model that knows them"
        raise PromptError(message, "unsupported_message")


def _marker(network: Network) -> str:
    return network.vision.marker if network.vision else ""


def _plain(messages: list[dict[str, Any]], marker: str, fence: Fence) -> tuple[list[dict[str, Any]], list[str]]:
    """Messages as chat templates take them, image parts replaced by the model's marker, and the images' URLs in order.

    Contents become strings, and the arguments of tool calls objects; a refusal is what the assistant says. Control
    tokens in what somebody wrote are fenced.
    """
    urls: list[str] = []
    plain = []
    for message in messages:
        texts = []
        for part in _parts(message.get("content") or message.get("refusal")):
            if part["type"] == "image_url":
                urls.append(part["image_url"]["url"])
                texts.append(marker)
            else:
                texts.append(fence.hide(part[part["type"]]))
        role = _TEMPLATE_ROLES.get(message["role"], message["role"])
        plain.append({"role": role, "content": "".join(texts)} | fence.hide(_tool_fields(message)))
    return plain, urls


def _tool_fields(message: dict[str, Any]) -> dict[str, Any]:
    fields = {name: message[name] for name in ("name", "tool_call_id") if message.get(name)}
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    functions += [message["function_call"]] if message.get("function_call") else []
    calls = [{"name": f["name"], "arguments": json.loads(f["arguments"])} for f in functions]
    if calls:
        fields["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    return fields


def _parts(content: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _render(
    tokenizer: Any, model: str, plain: list[dict[str, Any]], tools: list[dict[str, Any]] | None, *, prompt: bool
) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(plain, tools=tools, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        message = f"the chat template of the model {model!r} does not take this conversation: {error}"
        raise PromptError(message, "unsupported_message") from error


def _append_text(
    sequence: Sequence, network: Network, text: str, urls: list[str], features: ImageSource, fence: Fence
) -> list[str]:
    """Append `text`, unlearned, with its image slots; the URLs that are left over belong to later text."""
    if network.vision is None and urls:
        features.of(urls[0])  # raises: the model takes no images
    for piece, is_text in _between_images(text, network, fence):
        if is_text:
            sequence.append(fence.tokens(piece), learned=False)
            continue
        sequence.images.append(features.of(urls[0]))
        urls = urls[1:]
        sequence.append([IMAGE_SLOT] * len(sequence.images[-1]), learned=False)
    return urls


def _between_images(text: str, network: Network, fence: Fence) -> Iterator[tuple[str, bool]]:
    """Cut rendered text at its images; of each piece, whether it is text. What is fenced is no image."""
    marker = _marker(network)
    waiting = ""
    for piece, fenced in fence.pieces(text):
        if fenced:
            waiting += f"{fence.mark}{piece}{fence.mark}"
            continue
        first, *rest = piece.split(marker) if marker else [piece]
        waiting += first
        for after in rest:
            yield waiting, True
            yield marker, False
            waiting = after
    yield waiting, True


@contextmanager
def _told_of_fences() -> Iterator[None]:
    try:
        yield
    except UnfencedError as error:
        raise PromptError(str(error), "unsupported_message") from error


def _image_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for message in messages for part in _parts(message.get("content")) if part["type"] == "image_url"]


def _is_remote(url: str) -> bool:
    return url.startswith(("https://", "http://"))


def _image_bytes(url: str) -> bytes:
    if _is_remote(url):
        try:
            return remote_images.fetch(url)
        except ImageError as error:
            raise PromptError(f"{url[:200]}: {error.detail}", "invalid_image_url") from error
    header, comma, payload = url.partition(",")
    if not comma or not header.startswith("data:image/") or not header.endswith(";base64"):
        raise PromptError("image_url.url must be a data URL (data:image/png;base64,...)", "invalid_image_url")
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:
        raise PromptError(f"image_url.url holds invalid base64: {error}", "invalid_image_url") from error
