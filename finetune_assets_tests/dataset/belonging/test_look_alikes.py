"""Which images look the same, and which only nearly."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from finetune_assets.dataset.belonging.groups import components
from finetune_assets.dataset.belonging.look_alikes import MIN_CORRELATION, closeness, pairs
from finetune_assets.dataset.images import inspect
from finetune_assets_tests.dataset.pictures import picture


def clustered(pictures: Sequence[Image.Image | bytes]) -> list[int]:
    """The first picture of each picture's cluster."""
    with tempfile.TemporaryFile() as file:
        file.writelines(inspect(encoded(p) if isinstance(p, Image.Image) else p).thumbnail for p in pictures)
        file.flush()
        numbers = np.arange(len(pictures))
        return components(numbers, [pairs(file, numbers)]).tolist()


def encoded(picture: Image.Image, image_format: str = "PNG", **save: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **save)
    return buffer.getvalue()


def cell(seed: int, side: int = 150) -> Image.Image:
    """Something like a solar cell: a bright square with the bus bars of its make, and blotches of its own."""
    blotches = np.random.default_rng(seed).integers(110, 160, (9, 9), dtype=np.uint8)
    picture = Image.fromarray(blotches).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for at in (side // 4, side // 2, side * 3 // 4):
        draw.line((0, at, side, at), fill=40, width=3)
    return picture


def letters(seed: int, side: int = 512) -> Image.Image:
    """Two small letters somewhere on white."""
    randoms = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    for letter in "AB":
        x, y = randoms.integers(0, side - 40, 2).tolist()
        draw.text((x, y), letter, fill="black", font=ImageFont.load_default(size=24))
    return picture


@pytest.mark.parametrize("make", [cell, letters])
def test_copies_that_were_resized_recompressed_or_darkened_are_found(make: Callable[[int], Image.Image]) -> None:
    picture = make(0)
    half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    copies = [
        encoded(half),
        encoded(picture, "JPEG", quality=40),
        encoded(picture.convert("RGB"), "WEBP", quality=60),
        encoded(ImageEnhance.Brightness(picture).enhance(0.8)),
        encoded(ImageEnhance.Contrast(half).enhance(0.9), "JPEG", quality=75),
    ]
    assert clustered([picture, *copies, make(1)]) == [0, 0, 0, 0, 0, 0, 6]


def test_markers_elsewhere_on_white_are_other_images() -> None:
    assert clustered([letters(n) for n in range(60)]) == list(range(60))


def test_cells_of_one_make_are_other_images() -> None:
    assert clustered([cell(n) for n in range(60)]) == list(range(60))


def test_images_of_nearly_one_shade_are_nobodys_duplicates() -> None:
    assert clustered([picture(size=(200, 200), shade=shade) for shade in (2, 90, 91, 254)]) == [0, 1, 2, 3]


def test_the_frames_of_one_scene_belong_together_however_many() -> None:
    first, last = (np.asarray(cell(n), dtype=float) for n in (0, 1))
    chain = [Image.fromarray((first + (last - first) * step / 100).astype(np.uint8)) for step in range(101)]
    assert set(clustered([*chain, cell(2)])) == {0, 101}


def test_of_many_equal_images_few_pairs_tie_them_together() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(inspect(encoded(cell(0))).thumbnail * 1500)
        file.flush()
        one, other = pairs(file, np.arange(1500))
    assert len(one) < 1500 * 40
    assert set(components(np.arange(1500), [(one, other)]).tolist()) == {0}


def test_closeness_counts_the_test_images_that_nearly_look_like_one_that_trains() -> None:
    test, train = [cell(0), cell(1)], [cell(0).resize((100, 100)), cell(2), cell(3)]
    blank = bytes(32 * 32)
    with tempfile.TemporaryFile() as file:
        file.writelines([*(inspect(encoded(picture)).thumbnail for picture in [*test, *train]), blank, blank])
        file.flush()
        found = closeness(file, np.array([0, 1, 5]), np.array([2, 3, 4, 6]))
        assert closeness(file, np.arange(0), np.arange(3)).n_test == 0
    assert (found.n_test, found.n_train, found.n_close[0.99]) == (3, 4, 1)
    assert "of 3 test images so many correlate with one of 4 training images: 1 at 0.99" in str(found)


def test_the_search_finds_exactly_the_pairs_that_comparing_all_with_all_finds() -> None:
    randoms = np.random.default_rng(0)
    base = randoms.integers(0, 256, (40, 1024))
    noise = randoms.normal(0, 1, (1500, 1024)) * randoms.uniform(0, 8, (1500, 1))
    thumbnails = np.clip(base[randoms.integers(0, 40, 1500)] + noise, 0, 255).astype(np.uint8)
    thumbnails = np.concatenate([thumbnails, randoms.integers(0, 256, (700, 1024), dtype=np.uint8)])
    with tempfile.TemporaryFile() as file:
        file.write(thumbnails.tobytes())
        file.flush()
        found = components(np.arange(len(thumbnails)), [pairs(file, np.arange(len(thumbnails)))])

    alike = np.corrcoef(thumbnails.astype(float)) >= MIN_CORRELATION
    lonely = alike.sum(1) == 1
    assert (found[lonely] == np.flatnonzero(lonely)).all()
    sizes = np.bincount(found, minlength=len(found))[found]
    assert (sizes[~lonely] > 1).all()
