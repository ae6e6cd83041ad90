"""From a file to 8-bit RGB: the values as they are stored, their range, their colours, the right way up."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from finetune_assets.dataset.pixels.bands import bands
from finetune_assets.dataset.pixels.colours import in_mode, in_srgb, is_srgb, to_rgb
from finetune_assets.dataset.pixels.window import Shown, Window, to_eight_bits
from finetune_assets.errors import ImageError

_DEEP_GREYS = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if struct.pack("=H", 1) == struct.pack("<H", 1) else "L"}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""What libtiff decompresses has this machine's byte order, which Pillow forgets for some of the kinds."""
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT, _PLANES = 262, 258, 339, 284
_APART = 2
_ENDS = (340, 280), (341, 281)
"""Tags of the smallest and of the largest sample, the more general one first."""


def is_deep(image: ImageFile) -> bool:
    """Whether a file that was opened, and not yet decoded, stores more than 8 bits a value."""
    return image.mode in _DEEP_GREYS or _has_deep_colours(image) or _is_signed(image)


def is_plain(image: ImageFile) -> bool:
    """Whether an image's RGB(A) or grey values are those of sRGB as they are stored; asked before it is decoded."""
    return image.mode in ("RGB", "RGBA", "L") and not is_deep(image) and (image.mode == "L" or is_srgb(image))


def shown(data: bytes, image: ImageFile, window: Window | None = None) -> Shown:
    """Decode an image to upright 8-bit RGB(A).

    Args:
        data: The file's bytes.
        image: The same, opened by Pillow and not yet decoded.
        window: The task's range for values of more than 8 bits.

    Raises:
        ImageError: as `to_eight_bits`, or `image_wrong_mode` for colours that nobody knows in RGB.
    """
    if not is_deep(image):
        image.load()
        return Shown(_upright(to_rgb(image), image), None)
    white_is_low = _tag(image, _PHOTOMETRIC) == 0
    bits, declared = _declared(data, image)
    values, alpha = _stored(data, image)
    profile = image.info.get("icc_profile") if values.ndim == 3 else None
    found = to_eight_bits(values, window, bits=bits, declared=declared, white_is_low=white_is_low)
    del values  # of the largest images they are as much again as the pixels
    pixels = in_srgb(in_mode("RGB", found.image), profile)
    if alpha is not None:
        pixels.putalpha(Image.fromarray(alpha))
    return Shown(_upright(pixels, image), found.scale)


def windowed(data: bytes, image: ImageFile, window: Window) -> Image.Image:
    """Decode an image's own values to 8 bits, however few greys the window keeps: somebody is looking for one."""
    low, high = window
    if low >= high:
        raise ImageError("image_blank", f"the window from {low:g} to {high:g} is empty")
    white_is_low = _tag(image, _PHOTOMETRIC) == 0
    values = _stored(data, image)[0]
    shown = np.clip((values.astype(np.float64) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    return _upright(Image.fromarray(255 - shown if white_is_low else shown).convert("RGB"), image)


def extremes(data: bytes, image: ImageFile) -> Window:
    """Return the smallest and largest value of an image as it is stored."""
    values = _stored(data, image)[0]
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError("image_not_finite", "it holds NaN or infinity; replace them, or export it with integers")
    return float(values.min()), float(values.max())


def _tag(image: ImageFile, number: int) -> Any:
    """A tag of a TIFF file, None for other files."""
    return image.tag_v2.get(number) if isinstance(image, TiffImageFile) else None


def _is_signed(image: ImageFile) -> bool:
    """Whether a TIFF's bytes are signed, which Pillow passes over."""
    return image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == (2,)


def _has_deep_colours(image: ImageFile) -> bool:
    """Whether a file has 16-bit colours, of which Pillow keeps the upper byte."""
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        return False
    return max(_tag(image, _BITS) or (0,)) > 8 or any(";16" in _rawmode(tile.args) for tile in image.tile)


def _rawmode(args: Any) -> str:
    return str(args[0] if isinstance(args, tuple) else args)


def _declared(data: bytes, image: ImageFile) -> tuple[int | None, Window | None]:
    """Significant bits and range of the values as the file says."""
    stored = _tag(image, _BITS)
    bits = stored[0] if stored and 8 < stored[0] < 16 else None
    ends = [next((v for tag in tags if (v := _number(_tag(image, tag))) is not None), None) for tags in _ENDS]
    if ends[0] is not None and ends[1] is not None and ends[0] < ends[1]:
        return bits, (ends[0], ends[1])
    if image.format == "PNG":
        place = data.find(b"sBIT", 0, data.find(b"IDAT"))
        significant = data[place + 4] if place > 0 else 16
        if 8 < significant < 16 and image.mode == "I;16" and (image.getextrema()[1] or 0) < 2**significant:
            return significant, None
    return bits, None


def _number(found: Any) -> float | None:
    value = found[0] if isinstance(found, tuple) and found else found
    return float(value) if isinstance(value, int | float) else None


def _stored(data: bytes, image: ImageFile) -> tuple[np.ndarray, np.ndarray | None]:
    """The values as they are stored, `[h, w]` or `[h, w, 3]`, and the transparency in 8 bits, `[h, w]`, if any."""
    if _has_deep_colours(image):
        values, alpha = _deep_colours(data, image)
    else:
        image.tile = [_retold(tile, _NATIVE) if tile.codec_name == "libtiff" else tile for tile in image.tile]
        image.load()
        values, alpha = np.asarray(image), None
        if _is_signed(image):
            values = values.view(np.int8)
        elif image.mode == "I" and _tag(image, _SAMPLE_FORMAT) in (None, (1,)) and _tag(image, _BITS) == (32,):
            values = values.view(np.uint32)
    clear = image.info.get("transparency")
    if clear is not None and alpha is None:
        away = values == np.asarray(clear)
        alpha = np.where(away.all(-1) if values.ndim == 3 else away, 0, 255).astype(np.uint8)
    return values, alpha


def _deep_colours(data: bytes, image: ImageFile) -> tuple[np.ndarray, np.ndarray | None]:
    """Both bytes of 16-bit colours, which Pillow decodes one at a time."""
    kinds = {_rawmode(tile.args) for tile in image.tile}
    rawmode = min(kinds)
    if rawmode.startswith("LA"):
        # Read as four bytes: upper and lower one of grey and of alpha.
        bytes_ = np.asarray(_decoded(data, {rawmode: "RGBA"}))
        image.load()
        return bytes_[..., 0] * np.uint16(256) + bytes_[..., 1], bytes_[..., 2]
    if not rawmode.startswith(("RGB;16", "RGBA;16", "RGBX;16")) or _tag(image, _PLANES) == _APART:
        raise ImageError("image_wrong_mode", f"its pixels are {rawmode} in a layout that is not read; export it as RGB")
    image.load()
    other = _decoded(data, {kind: kind[:-1] + _OTHER_BYTE[kind[-1]] for kind in kinds})
    values = np.empty((image.height, image.width, 3), np.uint16)
    for box in bands(image):
        # Big-endian data read as little-endian gives the lower byte, and the other way round.
        upper, lower = (np.asarray(decoded.crop(box))[..., :3] for decoded in (image, other))
        values[box[1] : box[3]] = upper * np.uint16(256) + lower
    return values, np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None


def _decoded(data: bytes, rawmodes: dict[str, str]) -> Image.Image:
    """Decode an image with its bytes understood otherwise."""
    again = Image.open(io.BytesIO(data))
    again.tile = [_retold(tile, rawmodes) for tile in again.tile]
    again.load()
    return again


def _retold(tile: Any, rawmodes: dict[str, str]) -> Any:
    args = tile.args
    told = rawmodes.get(_rawmode(args), _rawmode(args))
    return tile._replace(args=(told, *args[1:]) if isinstance(args, tuple) else told)


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """The pixels of a decoded image turned as its EXIF data say; Pillow turns those of TIFF files itself."""
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    upright = pixels if turn is None else pixels.transpose(turn)
    # Pillow would turn it once more, and write comments and profiles into a new file.
    upright.info.clear()
    return upright
