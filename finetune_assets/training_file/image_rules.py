"""The rules for the images of one example: RGB JPEG, PNG or WEBP of at most 10 MiB, inlined or behind https.

Inlined images are decoded from base64 and checked by their headers and checksums, not pixel by pixel; addresses
are not fetched.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Any

from finetune_assets.dataset import images
from finetune_assets.errors import ImageError
from finetune_assets.training_file.tokens import ASSUMED_SIZE
from finetune_assets.training_file.tool_rules import Problem

MAX_IMAGES = 10
_FORMATS = {mime: name for name, mime in images.MIME_TYPES.items()} | {"image/jpg": "JPEG"}


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image of an example: the hash of its bytes (within this process) and its size in pixels."""

    key: int
    size: tuple[int, int]
    asked: bool
    """Whether it belongs to the last user message, the one that the learnt answer is about."""


def check_images(messages: list[dict[str, Any]], found: list[Problem], field: str = "messages") -> list[CheckedImage]:
    """Check the images of well-formed messages, in their order; those with a problem are left out of the result."""
    parts = [
        (index, f"{field}[{index}].content[{position}].image_url", part["image_url"]["url"])
        for index, message in enumerate(messages)
        if type(message.get("content")) is list
        for position, part in enumerate(message["content"])
        if part["type"] == "image_url"
    ]
    if not parts:
        return []
    if len(parts) > MAX_IMAGES:
        message = f"{len(parts)} images in one example, at most {MAX_IMAGES} are taken; split it"
        found.append(("too_many_images", message))
    last_user = max(index for index, message in enumerate(messages) if message["role"] == "user")
    checked: list[CheckedImage] = []
    for index, where, url in parts:
        try:
            key, size = _check_url(url, where, found)
        except ImageError as error:
            found.append((error.reason, f"{where} {error.detail}"))
        else:
            checked.append(CheckedImage(key, size, asked=index == last_user))
    return checked


def _check_url(url: str, where: str, found: list[Problem]) -> tuple[int, tuple[int, int]]:
    """Hash and size of an image.

    Raises:
        ImageError: with the finding's code as its reason.
    """
    if not url.startswith("data:"):
        if url.startswith("https://") and len(url) > len("https://"):
            return hash(url), ASSUMED_SIZE
        raise ImageError("image_invalid", f"must be a data URL or an https address, found {url[:60]!r}")
    mime, data = _decode(url)
    if len(data) > images.MAX_TRAINING_BYTES:
        raise ImageError("image_too_large", f"has {len(data):,} bytes, at most 10 MiB are taken; make it smaller")
    try:
        header = images.header(data)
    except ImageError as error:
        code = "image_invalid" if error.reason == "image_unreadable" else error.reason
        raise ImageError(code, f"is damaged: {error.detail}; replace the image or drop the line") from error
    if header.format not in images.MIME_TYPES:
        raise ImageError("image_format", f"is {header.format}; convert it to PNG, JPEG or WEBP")
    if header.mode not in ("RGB", "RGBA"):
        raise ImageError("image_mode", f"has Pillow mode {header.mode}; convert it to RGB")
    if header.format != _FORMATS[mime]:
        found.append(("image_mime", f"{where} says {mime} but holds {header.format}; correct the data URL"))
    return hash(data), (header.width, header.height)


def _decode(url: str) -> tuple[str, bytes]:
    """MIME type and bytes of a data URL."""
    head, comma, _ = url[:200].partition(",")
    mime, *options = head[len("data:") :].lower().split(";")
    if not comma or "base64" not in options:
        raise ImageError("image_invalid", f"must begin like data:image/png;base64, found {url[:40]!r}")
    if mime not in _FORMATS:
        raise ImageError("image_format", f"has the type {mime!r}; providers take image/png, image/jpeg and image/webp")
    try:
        return mime, binascii.a2b_base64(url[len(head) + 1 :], strict_mode=True)
    except ValueError as error:
        raise ImageError("image_invalid", f"its base64 is damaged ({error}); encode the image again") from error
