"""The rules for the images of one example: RGB JPEG, PNG or WEBP of at most 10 MiB, inlined or behind https.

Inlined images are decoded from base64 and checked by their headers and checksums, not pixel by pixel; addresses
are not fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import pybase64

from finetune_assets.errors import ImageError
from finetune_assets.training_file.findings import Problem
from finetune_assets.training_file.tokens import ASSUMED_SIZE

MAX_IMAGES = 10
_FORMATS = {"image/jpeg": "JPEG", "image/jpg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
_MODES = ("RGB", "RGBA")
_OTHER_ENDINGS = frozenset({"gif", "bmp", "tif", "tiff", "svg", "ico", "heic", "avif", "pdf", "mp4"})
_PRIVATE_ENDINGS = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home", ".corp")


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image of an example: the hash of its bytes (within this process) and its size in pixels."""

    key: int
    size: tuple[int, int]
    asked: bool
    """Whether it belongs to the last message with images, the one that the learnt answer is about."""


def check_images(messages: list[Any], found: list[Problem], field: str = "messages") -> list[CheckedImage]:
    """Check the images of the users' messages, in their order; those with a problem are left out of the result.

    What is no message or no image is passed over: the rules for messages name it.
    """
    parts = list(_images(messages, field))
    if not parts:
        return []
    if len(parts) > MAX_IMAGES:
        message = f"{len(parts)} images in one example, at most {MAX_IMAGES} are taken; split it"
        found.append(("too_many_images", message))
    last_shown = parts[-1][0]
    checked: list[CheckedImage] = []
    for index, where, url in parts:
        try:
            key, size = _check_url(url, where, found)
        except ImageError as error:
            found.append((error.reason, f"{where} {error.detail}"))
        else:
            checked.append(CheckedImage(key, size, asked=index == last_shown))
    return checked


def _is_user(message: Any) -> bool:
    return type(message) is dict and message.get("role") == "user"


def _images(messages: list[Any], field: str) -> Iterator[tuple[int, str, str]]:
    """Number of the message, name of the field and URL of each image."""
    for index, message in enumerate(messages):
        if not _is_user(message) or type(message.get("content")) is not list:
            continue
        for position, part in enumerate(message["content"]):
            image = part.get("image_url") if type(part) is dict and part.get("type") == "image_url" else None
            if type(image) is dict and type(url := image.get("url")) is str:
                yield index, f"{field}[{index}].content[{position}].image_url", url


def _check_url(url: str, where: str, found: list[Problem]) -> tuple[int, tuple[int, int]]:
    """Hash and size of an image.

    Raises:
        ImageError: with the finding's code as its reason.
    """
    # Pillow takes a while to load, and most files have no images.
    from finetune_assets.dataset import images

    if not url.startswith("data:"):
        _check_address(url, where, found)
        return hash(url), ASSUMED_SIZE
    mime, data = _decode(url)
    if len(data) > images.MAX_TRAINING_BYTES:
        raise ImageError("image_too_large", f"has {len(data):,} bytes, at most 10 MiB are taken; make it smaller")
    try:
        header = images.header(data)
    except ImageError as error:
        code = "image_invalid" if error.reason == "image_unreadable" else error.reason
        raise ImageError(code, f"is damaged: {error.detail}; replace the image or drop the line") from error
    if header.format not in _FORMATS.values():
        raise ImageError("image_format", f"is {header.format}; convert it to PNG, JPEG or WEBP")
    if _is_animated(data):
        raise ImageError("image_animated", "has several frames; export the one that is meant")
    if header.mode not in _MODES:
        raise ImageError("image_mode", f"has Pillow mode {header.mode}; convert it to RGB")
    if header.format != _FORMATS[mime]:
        found.append(("image_mime", f"{where} says {mime} but holds {header.format}; correct the data URL"))
    return hash(data), (header.width, header.height)


def _check_address(url: str, where: str, found: list[Problem]) -> None:
    try:
        address = urlsplit(url)
        scheme, host, path = address.scheme, address.hostname, address.path
    except ValueError:
        scheme, host, path = None, None, ""
    if scheme != "https" or not host or " " in url:
        raise ImageError("image_invalid", f"must be a data URL or an https address, found {url[:60]!r}")
    if (ending := path[-5:].rpartition(".")[2].lower()) in _OTHER_ENDINGS:
        message = f"{where} is a {ending} file by its name; providers leave out all but PNG, JPEG and WEBP"
        found.append(("image_mime", f"{message}, so convert it"))
    if _is_private(host):
        raise ImageError("image_private_host", f"is at {host!r}, which no provider reaches; inline the image instead")


@lru_cache(maxsize=1024)
def _is_private(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_ENDINGS)


def _is_animated(data: bytes) -> bool:
    """Whether a WEBP says so in its extended header, or a PNG announces frames (APNG) before its first pixels."""
    if data.startswith(b"RIFF"):
        return data[12:16] == b"VP8X" and bool(data[20] & 0b10)
    return data.startswith(b"\x89PNG") and b"acTL" in data[: data.find(b"IDAT")]


def _decode(url: str) -> tuple[str, bytes]:
    """MIME type and bytes of a data URL."""
    head, comma, _ = url[:200].partition(",")
    mime, *options = head[len("data:") :].lower().split(";")
    if not comma or "base64" not in options:
        raise ImageError("image_invalid", f"must begin like data:image/png;base64, found {url[:40]!r}")
    if mime not in _FORMATS:
        raise ImageError("image_format", f"has the type {mime!r}; providers take image/png, image/jpeg and image/webp")
    payload = url[len(head) + 1 :]
    try:
        return mime, pybase64.b64decode(payload, validate=True)
    except ValueError as error:
        why = "it is cut off" if len(payload) % 4 else "it holds other characters"
        raise ImageError("image_invalid", f"its base64 is damaged ({why}); encode the image again") from error
