"""From chat messages to token ids, for training and generation alike.

The model's own chat template renders the messages; what an assistant turn adds to the rendered text is what
training learns. Tokens are made piece by piece between those borders, so that the trained answer is
tokenised exactly as it is when generated.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from finetune_assets.dataset import images
from finetune_assets.errors import BaseModelError, FinetuneAssetsError, ImageError
from finetune_assets.server.network import Network

IMAGE_SLOT = -1


class PromptError(FinetuneAssetsError, ValueError):
    """Messages that this model cannot take. `code` is OpenAI's error code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


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


class ImageFeatures:
    """Features by image content, so that each image passes the vision tower once. Threads may share it."""

    def __init__(self, network: Network, capacity: int | None = None) -> None:
        self.network = network
        self.capacity = capacity
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
            self._cached.move_to_end(digest)
            if self.capacity is not None and len(self._cached) > self.capacity:
                self._cached.popitem(last=False)
            return self._cached[digest]

    def look(self, messages: list[dict[str, Any]]) -> None:
        """Make the features of all images of a conversation, so that encoding it finds them.

        Raises:
            PromptError: as `of`.
        """
        for message in messages:
            for part in _parts(message.get("content")):
                if part["type"] == "image_url":
                    self.of(part["image_url"]["url"])


def encode_prompt(network: Network, messages: list[dict[str, Any]], features: ImageFeatures) -> Sequence:
    """The prompt up to where the assistant's answer begins; nothing of it is learned."""
    plain, urls = _plain(network, messages)
    sequence = Sequence()
    _append_text(sequence, network, _render(network, plain, prompt=True), urls, features, learned=False)
    return sequence


def encode_example(network: Network, messages: list[dict[str, Any]], features: ImageFeatures) -> Sequence:
    """A whole conversation; every assistant turn is learned, up to its end token, unless its `weight` is 0."""
    plain, urls = _plain(network, messages)
    sequence, rendered = Sequence(), ""
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(network, plain[:turn], prompt=True)
        after = _render(network, plain[: turn + 1], prompt=False)
        if not (before.startswith(rendered) and after.startswith(before)):
            raise BaseModelError(
                f"the chat template of {network.base.name!r} rewrites earlier turns; it cannot be trained"
            )
        urls = _append_text(sequence, network, before[len(rendered) :], urls, features, learned=False)
        answer = _tokens(network, after[len(before) :])
        ends = [place for place, token in enumerate(answer) if token in network.end_ids]
        kept = ends[0] + 1 if ends else len(answer)
        sequence.append(answer[:kept], learned=message.get("weight", 1) != 0)
        sequence.append(answer[kept:], learned=False)
        rendered = after
    return sequence


def _plain(network: Network, messages: list[dict[str, Any]]) -> tuple[list[dict[str, str]], list[str]]:
    """Messages with string contents, image parts replaced by the model's marker, and the images' URLs in order."""
    marker = network.vision.marker if network.vision else ""
    urls: list[str] = []
    plain = []
    for message in messages:
        role = "system" if message["role"] == "developer" else message["role"]
        texts = []
        for part in _parts(message.get("content")):
            if part["type"] == "image_url":
                urls.append(part["image_url"]["url"])
                texts.append(marker)
            else:
                texts.append(part["text"].replace(marker, "") if marker else part["text"])
        plain.append({"role": role, "content": "".join(texts)})
    return plain, urls


def _parts(content: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else [{"type": "text", "text": content or ""}]


def _render(network: Network, plain: list[dict[str, str]], *, prompt: bool) -> str:
    return network.tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt)


def _append_text(
    sequence: Sequence, network: Network, text: str, urls: list[str], features: ImageFeatures, *, learned: bool
) -> list[str]:
    """Append `text` with its image slots; the URLs that are left over belong to later text."""
    pieces = text.split(network.vision.marker) if network.vision else [text]
    if network.vision is None and urls:
        features.of(urls[0])  # raises: the model takes no images
    for number, piece in enumerate(pieces):
        if number:
            sequence.images.append(features.of(urls[0]))
            urls = urls[1:]
            sequence.append([IMAGE_SLOT] * len(sequence.images[-1]), learned=False)
        sequence.append(_tokens(network, piece), learned=learned)
    return urls


def _tokens(network: Network, text: str) -> list[int]:
    return network.tokenizer(text, add_special_tokens=False).input_ids if text else []


def _image_bytes(url: str) -> bytes:
    header, comma, payload = url.partition(",")
    if not comma or not header.startswith("data:image/") or not header.endswith(";base64"):
        raise PromptError(
            "image_url.url must be a data URL (data:image/png;base64,...); this server fetches nothing",
            "invalid_image_url",
        )
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:
        raise PromptError(f"image_url.url holds invalid base64: {error}", "invalid_image_url") from error
