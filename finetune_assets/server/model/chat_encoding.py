"""From chat messages to token ids, for training and generation alike.

The model's own chat template renders the messages (see `chat_template`); what an assistant turn adds to the rendered
text is what training learns. What stands before it must be the very tokens that it is asked with.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from finetune_assets.dataset import images
from finetune_assets.errors import ImageError
from finetune_assets.server.model import remote_images
from finetune_assets.server.model.chat_template import PromptError, Turn, content_parts
from finetune_assets.server.model.plain_text import Fence, UnfencedError

if TYPE_CHECKING:
    from PIL.Image import Image

    from finetune_assets.server.model.network import Network

IMAGE_SLOT = -1
_LOOKING = threading.Lock()
"""Held while pixels are in memory, whatever model looks at them: the largest images take up to a gigabyte each."""


@dataclass
class Sequence:
    """Token ids with, for each, whether training learns to predict it."""

    ids: list[int] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    """Features of its images, `[slots, d_features]` each, in order of their slots."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What the forward of a model with a processor of its own takes beside the ids: pixels, grids, types of tokens."""

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
                    with _LOOKING:
                        self._cached[digest] = vision.features(images.decode(data))
                except ImageError as error:
                    raise PromptError(f"an image cannot be used: {error}", "invalid_image") from error
                self._bytes += self._cached[digest].nbytes
            self._cached.move_to_end(digest)
            while self.budget_bytes is not None and self._bytes > self.budget_bytes and len(self._cached) > 1:
                self._bytes -= self._cached.popitem(last=False)[1].nbytes
            return self._cached[digest]


def has_images(messages: list[dict[str, Any]]) -> bool:
    """Whether an image is shown."""
    return bool(_image_parts(messages))


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


def encode_prompt(
    network: Network,
    messages: list[dict[str, Any]],
    features: ImageSource,
    tools: list[dict[str, Any]] | None = None,
    effort: str | None = None,
) -> Sequence:
    """The prompt up to where the assistant's answer begins; nothing of it is learned.

    Args:
        network: the model that is asked.
        messages: in OpenAI's format.
        features: where those of images come from.
        tools: as `tools_of` returns them.
        effort: how much reasoning is asked for; None: the answer comes at once.

    Raises:
        PromptError: the model cannot take it, or it is longer than the model's context whatever its tokens are.
    """
    with told_of_fences():
        encoder, plain = prepared(network, messages, tools, features)
        text = network.template.prompt(plain, encoder.fence.hide(tools), effort)
        if len(text) > network.max_length * network.longest_token:
            message = (
                f"This model's maximum context length is {network.max_length} tokens; your messages have far more."
            )
            raise PromptError(message, "context_length_exceeded")
        return encoder.encode(text, len(encoder.urls))


def encode_conversation(
    network: Network, messages: list[dict[str, Any]], features: ImageSource, tools: list[dict[str, Any]] | None = None
) -> list[Sequence]:
    """A whole conversation; every assistant turn is learned, up to its end token, unless its `weight` is 0.

    It is one sequence, or several where the template rewrites earlier turns (some leave out what was thought): each
    turn is learned as it would be asked for.

    Raises:
        PromptError: the model cannot take it: an image, or something its chat template leaves out.
    """
    with told_of_fences():
        encoder, plain = prepared(network, messages, tools, features)
        groups: list[list[tuple[Turn, bool]]] = []
        for turn in network.template.turns(plain, encoder.fence.hide(tools)):
            learned = messages[turn.place].get("weight", 1) != 0
            before = groups[-1][-1][0] if groups else None
            if before and turn.prompt.startswith(before.prompt + before.answer):
                groups[-1].append((turn, learned))
            else:
                groups.append([(turn, learned)])
        return [made for group in groups if any(on for _, on in group) for made in encoder.learn(group)]


@dataclass(frozen=True)
class Encoder:
    """Makes token ids of the texts that one conversation is rendered to."""

    network: Network
    fence: Fence
    urls: list[str]
    """Of the conversation's images, in order."""
    features: ImageSource

    def encode(self, text: str, n_images: int) -> Sequence:
        """A rendered text with the first `n_images` of the conversation; nothing of it is learned.

        Raises:
            PromptError: an image or a token of it is nothing that the model knows.
        """
        sequence = self._encoded(text, n_images)
        embedding: Any = self.network.embedding
        known = len(embedding.weight)
        if strange := [token for token in sequence.ids if token >= known]:
            spelled = self.network.tokenizer.convert_ids_to_tokens(strange[0])
            told = (
                f"the model {self.network.base.name!r} has no embedding for the token {spelled!r} of its own tokenizer"
            )
            raise PromptError(f"{told}; leave that out", "unsupported_message")
        return sequence

    def _encoded(self, text: str, n_images: int) -> Sequence:
        if self.network.front.processor is not None:
            return self._processed(text, n_images)
        sequence = Sequence()
        urls = iter(self.urls)
        for piece, is_text in _between_images(text, self.network, self.fence):
            if is_text:
                sequence.append(self.fence.tokens(piece), learned=False)
                continue
            sequence.images.append(self.features.of(next(urls)))
            sequence.append([IMAGE_SLOT] * len(sequence.images[-1]), learned=False)
        return sequence

    def learn(self, turns: list[tuple[Turn, bool]]) -> list[Sequence]:
        """Turns of which each goes on where the one before ended; learned are those with a True beside them.

        Where tokens span the border of a prompt and its answer, each turn is a sequence of its own.
        """
        last, _ = turns[-1]
        whole = self.encode(last.prompt + last.answer, last.n_images)
        for turn, learned in turns:
            prompt = self.encode(turn.prompt, turn.n_images).ids
            upto = self.encode(turn.prompt + turn.answer, turn.n_images).ids if turn is not last else whole.ids
            if whole.ids[: len(prompt)] != prompt or whole.ids[: len(upto)] != upto:
                return [self._joined(turn) for turn, learned in turns if learned]
            if learned:
                self._learn(whole, len(prompt), len(upto))
        return [whole]

    def _joined(self, turn: Turn) -> Sequence:
        sequence = self.encode(turn.prompt, turn.n_images)
        start = len(sequence.ids)
        sequence.append(continuing(turn.answer, self.fence), learned=False)
        self._learn(sequence, start, len(sequence.ids))
        return sequence

    def _learn(self, sequence: Sequence, start: int, end: int) -> None:
        """Learn an answer up to its first end token; one that has none gets one, if nothing else follows."""
        ends = [place for place in range(start, end) if sequence.ids[place] in self.network.end_ids]
        if not ends and end == len(sequence.ids):
            sequence.append([self.network.tokenizer.eos_token_id], learned=False)
        # What follows an answer may be what ends it.
        stop = ends[0] + 1 if ends else end + (sequence.ids[end] in self.network.end_ids)
        sequence.learned[start:stop] = [True] * (stop - start)

    def _processed(self, text: str, n_images: int) -> Sequence:
        """By the model's own processor, which puts as many tokens for an image as its forward wants."""
        processor, tokenizer = self.network.front.processor, self.network.tokenizer
        how: dict[str, Any] = {"return_tensors": "pt"}
        if tokenizer.bos_token and text.startswith(tokenizer.bos_token):
            how["add_special_tokens"] = False  # as transformers' own templates do
        shown = [_image_bytes(url) for url in self.urls[:n_images]]
        if self.fence.controls is not None:
            text, how["sanitize_control_tokens"] = _marked(self.fence, text), True
        try:
            with _LOOKING if shown else nullcontext():
                made = dict(processor(text=[text], images=_pictures(shown) or None, **how))
        except (ValueError, TypeError, IndexError, RuntimeError) as error:
            message = f"the processor of the model {self.network.base.name!r} does not take this conversation: {error}"
            raise PromptError(message, "unsupported_message") from error
        ids = made.pop("input_ids")[0].tolist()
        made.pop("attention_mask", None)
        return Sequence(ids, [False] * len(ids), extras={k: v for k, v in made.items() if isinstance(v, Tensor)})


def prepared(
    network: Network, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, features: ImageSource
) -> tuple[Encoder, list[dict[str, Any]]]:
    """An encoder for the conversation, and its messages as the model's template takes them."""
    fence = Fence.around(network.tokenizer, [messages, tools], network.template.marker)
    plain, urls = network.template.plain(messages, fence)
    if urls and network.vision is None and network.front.processor is None:
        raise PromptError(f"the model {network.base.name!r} takes no images", "invalid_image")
    return Encoder(network, fence, urls, features), plain


def _marked(fence: Fence, text: str) -> str:
    """The same text with its fences as transformers' own processors know them."""
    from transformers.utils.chat_template_utils import mark_control_tokens

    controls: Any = fence.controls
    pieces = fence.pieces(text)
    return "".join(mark_control_tokens(piece, controls) if fenced else piece for piece, fenced in pieces)


def continuing(text: str, fence: Fence) -> list[int]:
    """Token ids of a text that follows another: SentencePiece puts a space before one that does not."""
    newline = fence.tokens("\n")
    ids = fence.tokens("\n" + text)
    return ids[len(newline) :] if ids[: len(newline)] == newline else fence.tokens(text)


def _between_images(text: str, network: Network, fence: Fence) -> Iterator[tuple[str, bool]]:
    """Cut rendered text at its images; of each piece, whether it is text. What is fenced is no image."""
    marker = network.template.marker
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
def told_of_fences() -> Iterator[None]:
    """Make errors about fences errors about the request."""
    try:
        yield
    except UnfencedError as error:
        raise PromptError(str(error), "unsupported_message") from error


def _pictures(shown: list[bytes]) -> list[Image]:
    try:
        return [images.decode(data) for data in shown]
    except ImageError as error:
        raise PromptError(f"an image cannot be used: {error}", "invalid_image") from error


def _image_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        part for message in messages for part in content_parts(message.get("content")) if part["type"] == "image_url"
    ]


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
