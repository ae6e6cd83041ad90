"""The rules for the images of one example: what a target takes, inlined or behind a public address.

Inlined images are decoded from base64 and checked by their headers and checksums, not pixel by pixel; addresses
are not fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import pybase64

from finetune_assets.errors import ImageError
from finetune_assets.training_file.findings import Problem
from finetune_assets.training_file.messages import ImagePart, Message
from finetune_assets.training_file.target import Target
from finetune_assets.training_file.tokens import ASSUMED_SIZE

_FORMATS = {"image/jpeg": "JPEG", "image/jpg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
_OTHER_ENDINGS = frozenset({"gif", "bmp", "tif", "tiff", "svg", "ico", "heic", "avif", "pdf", "mp4"})
_PRIVATE_ENDINGS = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home", ".corp")


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image of an example: the hash of its bytes (within this process) and its size in pixels."""

    key: int
    size: tuple[int, int]
    asked: bool
    """Whether it belongs to the last message with images, the one that the learnt answer is about."""
    data: bytes
    """Of an inlined image; empty of one behind an address."""


def check_images(messages: Sequence[Message], target: Target, found: list[Problem]) -> list[CheckedImage]:
    """Check the images of the users' messages, in their order; those with a problem are left out of the result."""
    shown = [message.images for message in messages if message.images]
    if not shown:
        return []
    n_images = sum(map(len, shown))
    if n_images > target.max_images:
        message = f"{n_images} images in one example, at most {target.max_images} are taken; split it"
        found.append(("too_many_images", message))
    checked: list[CheckedImage] = []
    for images in shown:
        for image in images:
            try:
                key, size, data = _check_url(image, target, found)
            except ImageError as error:
                found.append((error.reason, f"{image.where} {error.detail}"))
            else:
                checked.append(CheckedImage(key, size, images is shown[-1], data))
    return checked


def _check_url(image: ImagePart, target: Target, found: list[Problem]) -> tuple[int, tuple[int, int], bytes]:
    """Hash, size and, where it is inlined, bytes of an image.

    Raises:
        ImageError: with the finding's code as its reason.
    """
    # Pillow takes a while to load, and most files have no images.
    from finetune_assets.dataset import image_headers

    if not image.url.startswith("data:"):
        _check_address(image, target, found)
        return hash(image.url), ASSUMED_SIZE, b""
    mime, data = _decode(image.url)
    if len(data) > target.max_image_bytes:
        most = target.max_image_bytes // 2**20
        raise ImageError("image_too_large", f"has {len(data):,} bytes, at most {most} MiB are taken; make it smaller")
    try:
        header = image_headers.header(data)
    except ImageError as error:
        code = "image_invalid" if error.reason == "image_unreadable" else error.reason
        raise ImageError(code, f"is damaged: {error.detail}; replace the image or drop the line") from error
    if header.format not in target.image_formats:
        raise ImageError("image_format", f"is {header.format}; convert it to PNG, JPEG or WEBP")
    if _is_animated(data):
        raise ImageError("image_animated", "has several frames; export the one that is meant")
    if header.mode not in target.image_modes:
        raise ImageError("image_mode", f"has Pillow mode {header.mode}; convert it to RGB")
    if header.format != _FORMATS[mime]:
        found.append(("image_mime", f"{image.where} says {mime} but holds {header.format}; correct the data URL"))
    return hash(data), (header.width, header.height), data


def _check_address(image: ImagePart, target: Target, found: list[Problem]) -> None:
    url, where = image.url, image.where
    try:
        address = urlsplit(url)
        scheme, host, path = address.scheme, address.hostname, address.path
    except ValueError:
        scheme, host, path = None, None, ""
    if scheme not in (("https", "http") if target.plain_http else ("https",)) or not host or " " in url:
        raise ImageError("image_invalid", f"must be a data URL or an https address, found {url[:60]!r}")
    if scheme == "http":
        message = f"{where} is a plain http address, on whose way anybody may change the image; use https, or inline it"
        found.append(("image_plain_http", message))
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
        raise ImageError("image_invalid", f"its base64 is damaged: {_wrong_base64(payload)}") from error


def _wrong_base64(payload: str) -> str:
    """Say why base64 cannot be decoded, and what to do."""
    if any(space in payload for space in "\r\n"):
        return "it holds line breaks, as base64.encodebytes and `base64 -w 76` write them; use base64.b64encode"
    if "-" in payload or "_" in payload:
        return "it is in the alphabet for addresses, with - and _; use base64.b64encode, which writes + and /"
    if " " in payload:
        return "it holds spaces, which were + before somebody decoded them as in a form; encode the image again"
    if "%" in payload:
        return "it holds %, as addresses do; take the base64 as it is, without urllib.parse.quote"
    rest = payload.rstrip("=")
    if not rest.isascii() or not rest.replace("+", "").replace("/", "").isalnum():
        return "it holds other characters than those of base64; encode the image again"
    if len(rest) % 4 != 1 and len(payload) % 4:
        return "it is cut off, or the = at its end are missing; encode the image again"
    return "it is cut off; encode the image again"
