"""What images a request may hold: how many, how large and from where; looked at before any is decoded."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from finetune_assets.dataset import image_headers
from finetune_assets.errors import ImageError
from finetune_assets.server.api.wire import ApiError

MAX_IMAGES = 500
"""Images in one request, as with OpenAI."""
MAX_IMAGE_BYTES = 20 << 20
MAX_PIXELS = 128_000_000
"""Of all images of a request together: two of the largest, or thirty of a common camera."""


def check_images(shown: Iterable[tuple[str, str]], param: str) -> None:
    """Refuse images that are too many, too large, or none. Not for the event loop: their headers are looked at.

    Args:
        shown: of each image its place in the request and its URL.
        param: the part of the request that holds them all.

    Raises:
        ApiError: naming the place.
    """
    count = pixels = 0
    for place, url in shown:
        count += 1
        if not url.startswith(("data:image/", "https://")):
            text = f"Invalid '{place}': expected a data URL (data:image/png;base64,...) or an https URL."
            raise ApiError(400, text, param=place, code="invalid_image_url")
        if len(url) * 3 // 4 > MAX_IMAGE_BYTES + 100:
            text = f"Invalid '{place}': the image is larger than {MAX_IMAGE_BYTES >> 20} MB."
            raise ApiError(400, text, param=place, code="image_too_large")
        pixels += _pixels(url, place)
        if pixels > MAX_PIXELS:
            text = (
                f"The images up to '{place}' have {pixels:,} pixels together, more than {MAX_PIXELS:,}. Send them "
                "smaller (models look at far fewer) or in several requests."
            )
            raise ApiError(400, text, param=place, code="too_many_pixels")
    if count > MAX_IMAGES:
        message = f"Too many images in request. Maximum is {MAX_IMAGES}, but got {count}."
        raise ApiError(400, message, param=param, code="too_many_images")


def _pixels(url: str, place: str) -> int:
    """Read an inlined image's size from its first bytes; 0 of one that is elsewhere.

    Raises:
        ApiError: these are not the bytes of an image, or of one that is too large.
    """
    if url.startswith("https://"):
        return 0
    try:
        # Of a JPEG with a preview or a colour profile in it, the size comes after these.
        found = image_headers.header(base64.b64decode(url.partition(",")[2], validate=True))
    except ImageError as error:
        raise ApiError(400, f"an image cannot be used: {error}", param=place, code="invalid_image") from None
    except ValueError as error:
        text = f"Invalid '{place}': image_url.url holds invalid base64: {error}"
        raise ApiError(400, text, param=place, code="invalid_image_url") from None
    return found.width * found.height
