"""Which stored value is black and which is white: the only place that decides it.

A value of more than 8 bits means nothing until a range is chosen that is shown from black to white. In this order:

1. the task's own (`source.window`), in stored values; nothing else is tried where there is one
2. what the file declares (a smallest and a largest sample), else all that its bits can hold
3. the smallest and the largest value that the image holds
4. the same without the thousandth, and without the hundredth part at either end, so that a hot pixel blackens nothing

The first that keeps the image's greys is taken: 200 of them, or half of fewer than 400; the task's own may make do with
32, since whoever names a range knows dark images from light ones by it. An image for which none does so is refused, and
never shown nearly black. Values outside the range are as black or white as its ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from finetune_assets.dataset.pixels.bands import row_bands
from finetune_assets.errors import ImageError

KEPT_GREYS = 200
"""Grey levels of an image that are still told apart in 8 bits, if it holds twice as many or more."""
KEPT_IN_A_WINDOW = 32
"""The same for a range that the task names: with fewer it is that of other images."""
Window = tuple[float, float]
"""Smallest and largest stored value that are told apart; the one becomes black, the other white."""
_SEEN = 1_000_000
"""Pixels whose values are counted; of a larger image every second, third and so on."""
_FEW = 16
"""So many greys or fewer are all told apart, as the classes of a mask have to be."""
_CUT_OFF = (0.001, 0.01)


@dataclass(frozen=True, slots=True)
class Scale:
    """Which stored values an image's black and white stand for."""

    bits: int
    """Of a stored value."""
    low: float
    high: float
    by: Literal["task", "file", "image"]
    """Who said so: `source.window`, what the file declares or can hold, or the values that this one image holds."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An image in 8 bits."""

    image: Image.Image
    """RGB, or RGBA where parts are transparent; from an array of greys L."""
    scale: Scale | None
    """None where the file itself has 8 bits or fewer."""


def to_eight_bits(
    values: np.ndarray,
    window: Window | None = None,
    *,
    bits: int | None = None,
    declared: Window | None = None,
    white_is_low: bool = False,
) -> Shown:
    """Turn stored values into 8 bits; the module says in which range.

    Args:
        values: Integers or floating-point numbers, `[h, w]`, or `[h, w, 3]` of which all channels share one range;
            unsigned bytes stay as they are without a window.
        window: The task's range.
        bits: Significant bits of a value, where they are fewer than the array's type has.
        declared: The range that the file declares.
        white_is_low: Whether the smallest value is white (MONOCHROME1, WhiteIsZero).

    Raises:
        ImageError: `image_not_finite` for NaN or infinity, `image_blank` if all values are the same or the window
            tells none apart, `image_few_greys` if no range keeps the image's greys.
    """
    if values.dtype == np.uint8 and window is None:
        return Shown(Image.fromarray(255 - values if white_is_low else values), None)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError("image_not_finite", "it holds NaN or infinity; replace them, or export it with integers")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    depth = bits or values.dtype.itemsize * 8
    if declared is None and values.dtype.kind == "u" and depth <= 16:
        declared = (0.0, 2.0**depth - 1)
    scale = _scale(values.reshape(-1), depth, window, declared)
    return Shown(_shown(values, scale, white_is_low), scale)


def _scale(flat: np.ndarray, bits: int, window: Window | None, declared: Window | None) -> Scale:
    """The first range that keeps the greys."""
    seen = flat[:: max(1, flat.size // _SEEN)]
    held, low, high = np.unique(seen), float(flat.min()), float(flat.max())
    if low == high:
        raise ImageError("image_blank", f"all its pixels are {low:g}")
    most = 0
    for scale in [Scale(bits, *window, "task")] if window else _found(seen, low, high, bits, declared):
        inside = held[(held >= scale.low) & (held <= scale.high)]
        greys = np.unique(_mapped(inside, scale))
        if window and len(greys) < 2:
            raise ImageError("image_blank", f"{_words(scale)} tells none of its values from {low:g} to {high:g} apart")
        if not len(greys):  # what the file declares holds none of its values
            continue
        wanted = KEPT_IN_A_WINDOW if window else KEPT_GREYS
        spans = window is not None or int(greys[-1]) - int(greys[0]) >= KEPT_GREYS
        if spans and len(greys) >= min(wanted, max(len(inside) // 2, min(len(inside), _FEW))):
            return scale
        most = max(most, len(greys))
    where = _words(Scale(bits, *window, "task")) if window else "no range"
    kept = f"{where} keeps more than {most} of its {len(held):,} greys from {low:g} to {high:g}"
    if window:
        kept = f"{where} keeps {most} of its {len(held):,} greys from {low:g} to {high:g}"
    raise ImageError("image_few_greys", f"{kept}; name the values that matter: `window: [low, high]` under `source`")


def _words(scale: Scale) -> str:
    return f"the window from {scale.low:g} to {scale.high:g}"


def _found(seen: np.ndarray, low: float, high: float, bits: int, declared: Window | None) -> Iterator[Scale]:
    """The ranges that are tried where the task names none."""
    if declared is not None:
        yield Scale(bits, *declared, "file")
    yield Scale(bits, low, high, "image")
    ordered = np.sort(seen)
    for part in _CUT_OFF:
        n = math.ceil(part * len(ordered))
        if 2 * n < len(ordered) and ordered[n] < ordered[-1 - n]:
            yield Scale(bits, float(ordered[n]), float(ordered[-1 - n]), "image")


def _mapped(values: np.ndarray, scale: Scale) -> np.ndarray:
    part = (values.astype(np.float64) - scale.low) / (scale.high - scale.low)
    return np.rint(part.clip(0, 1) * 255).astype(np.uint8)


def _shown(values: np.ndarray, scale: Scale, white_is_low: bool) -> Image.Image:
    """All pixels in 8 bits, without a copy of them in floating-point numbers or as indices."""
    made = Image.new("L" if values.ndim == 2 else "RGB", (values.shape[1], values.shape[0]))
    small = values.dtype.itemsize == 2 and values.dtype.kind in "ui"
    greys = _mapped(np.arange(2**16, dtype=np.uint16).view(values.dtype), scale) if small else None
    for top, bottom in row_bands(len(values), math.prod(values.shape[1:])):
        band = values[top:bottom]
        shown = _mapped(band, scale) if greys is None else greys[band.view(np.uint16)]
        made.paste(Image.fromarray(255 - shown if white_is_low else shown), (0, top))
    return made
