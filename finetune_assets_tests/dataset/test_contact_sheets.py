import io
from pathlib import Path

import numpy as np
from PIL import Image

from finetune_assets.dataset.contact_sheets import contact_sheet
from finetune_assets_tests.dataset.pictures import put


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_contact_sheet_shows_good_and_broken_images_within_150_kb(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 96, 96, 3), dtype=np.uint8)
    rows: list[tuple[str | Path, str]] = [(tmp_path / "missing.png", "no image")]
    for index, pixels in enumerate(noise):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append((put(tmp_path / f"{index}.png", buffer.getvalue()), f"{index} a caption far too long for its cell"))
    sheet = contact_sheet(rows)
    assert len(sheet) <= 150_000
    assert opened(sheet).format == "PNG"


def test_an_empty_contact_sheet_is_still_an_image() -> None:
    assert opened(contact_sheet([])).size == (104, 104)


def test_only_captions_take_room_below_the_images(tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    assert opened(contact_sheet([(missing, "")])).size == (104, 104)
    assert opened(contact_sheet([(missing, "no image")])).size == (104, 120)
