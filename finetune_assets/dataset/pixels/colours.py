"""Colours become those of sRGB, as the file's colour profile says."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms

from finetune_assets.errors import ImageError

_NAMED_ALIKE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")
"""Modes of 8 bits whose colours are the same in RGB, unless a profile says otherwise."""
_SAME_COLOUR = 3
"""Of 255: a profile under which no colour moves farther is sRGB, whatever it is called."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a decoded image of 8 bits or fewer into sRGB, RGBA where parts are transparent.

    Raises:
        ImageError: `image_wrong_mode` for colours that nobody knows in RGB.
    """
    profile = image.info.get("icc_profile")
    if image.mode in ("CMYK", "LAB"):
        transform = _to_srgb(profile, "CMYK") if image.mode == "CMYK" else _lab_to_srgb()
        if transform is None:
            raise ImageError("image_wrong_mode", "its pixels are CMYK without a colour profile; export it as RGB")
        return _applied(transform, image)
    if image.mode not in _NAMED_ALIKE:
        raise ImageError("image_wrong_mode", f"its pixels are {image.mode}; export it as RGB or greyscale")
    rgb = in_mode("RGBA" if image.has_transparency_data else "RGB", image)
    return rgb if image.mode in ("1", "L", "LA") else in_srgb(rgb, profile)


def in_srgb(rgb: Image.Image, profile: bytes | None) -> Image.Image:
    """Turn RGB(A) colours of a profile into those of sRGB; without one, or one of other colours, they are."""
    transform = _to_srgb(profile, "RGB")
    if transform is None:
        return rgb
    made = _applied(transform, in_mode("RGB", rgb))
    if rgb.mode == "RGBA":
        made.putalpha(rgb.getchannel("A"))
    return made


def is_srgb(image: Image.Image) -> bool:
    """Whether the numbers of an RGB image are those of sRGB."""
    return _to_srgb(image.info.get("icc_profile"), "RGB") is None


def in_mode(mode: str, image: Image.Image) -> Image.Image:
    """Convert an image to a mode. Pillow copies also what has it: 256 MB of the largest images."""
    return image if image.mode == mode else image.convert(mode)


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    made = ImageCms.applyTransform(image, transform)
    assert made is not None  # noqa: S101 (it is None only where the image is changed in place)
    return made


@lru_cache(maxsize=64)
def _to_srgb(profile: bytes | None, mode: Literal["RGB", "CMYK"]) -> ImageCms.ImageCmsTransform | None:
    """How a profile's colours become those of sRGB; None where they are, or the profile is of no such colours."""
    if not profile:
        return None
    try:
        given: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if given.profile.xcolor_space.strip() != mode:
            return None
        transform = _transform(given, mode)
    except (ImageCms.PyCMSError, OSError):
        # Browsers pass over a damaged profile as well.
        return None
    if mode == "CMYK":
        return transform
    steps = np.linspace(0, 255, 6).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 6, 3)
    moved = np.asarray(_applied(transform, Image.fromarray(colours))).astype(int) - colours
    return transform if np.abs(moved).max() > _SAME_COLOUR else None


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _transform(given: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(given, srgb, mode, "RGB", intent, flags)
