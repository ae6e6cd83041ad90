import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from finetune_assets.dataset.images import MAX_TRAINING_BYTES, data_url
from finetune_assets.training_file.target import AZURE, LOCAL
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.dataset.pictures import picture
from finetune_assets_tests.training_file.chats import assistant, chat, checked, codes, good, image, text, user, write


def animated(image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, image_format, save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])
    return buffer.getvalue()


PNG = base64.b64encode(picture()).decode()


@pytest.mark.parametrize(
    "url",
    [
        data_url(picture("PNG", "RGBA"), "image/png"),
        data_url(picture("JPEG"), "image/jpeg"),
        data_url(picture("JPEG"), "image/jpg"),
        data_url(picture("WEBP"), "image/webp"),
        "https://example.com/a.png",
    ],
)
def test_a_fit_image_has_no_finding(tmp_path: Path, url: str) -> None:
    report = checked(tmp_path, chat(user([image(url), text()]), assistant()))
    assert codes(report) == []
    assert report.n_images == 1


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("images/a.png", "image_invalid", "must be a data URL or an https address, found 'images/a.png'"),
        ("https://", "image_invalid", "must be a data URL or an https address"),
        ("data:image/png," + PNG, "image_invalid", "must begin like data:image/png;base64"),
        ("data:image/png;base64" + PNG, "image_invalid", "must begin like data:image/png;base64"),
        ("data:image/gif;base64," + PNG, "image_format", "has the type 'image/gif'"),
        ("data:image/png;base64," + PNG[:-3], "image_invalid", "its base64 is damaged: it is cut off"),
        (
            "data:image/png;base64," + PNG[:40] + "\n" + PNG[40:],
            "image_invalid",
            "it holds line breaks, as base64.encod",
        ),
        ("data:image/png;base64," + PNG[:40] + "\r\n" + PNG[40:], "image_invalid", "use base64.b64encode"),
        ("data:image/png;base64,-_" + PNG[2:], "image_invalid", "in the alphabet for addresses"),
        ("data:image/png;base64, " + PNG[1:], "image_invalid", "which were + before"),
        ("data:image/png;base64,%2B" + PNG[3:], "image_invalid", "without urllib.parse.quote"),
        ("data:image/png;base64,\u00e9" + PNG[1:], "image_invalid", "other characters than those of base64"),
        ("data:image/png;base64,", "image_invalid", "the file is empty"),
        ("https://192.168.0.5/a.png", "image_private_host", "at '192.168.0.5', which no provider reaches"),
        ("https://localhost:8000/a.png", "image_private_host", "inline the image instead"),
        ("https://images.internal/a.png", "image_private_host", "'images.internal'"),
        (data_url(animated("PNG"), "image/png"), "image_animated", "has several frames"),
        (data_url(animated("WEBP"), "image/webp"), "image_animated", "has several frames"),
        (data_url(picture()[:-20], "image/png"), "image_truncated", "is damaged"),
        (data_url(b"hello", "image/png"), "image_invalid", "beginning b'hello'"),
        (data_url(picture("PNG", "L"), "image/png"), "image_mode", "has Pillow mode L; convert it to RGB"),
        (data_url(picture("JPEG", "CMYK"), "image/jpeg"), "image_mode", "CMYK"),
        (data_url(picture("GIF", "L"), "image/png"), "image_format", "is GIF; convert it"),
        (data_url(bytes(MAX_TRAINING_BYTES + 1), "image/png"), "image_too_large", "10,485,761 bytes"),
    ],
)
def test_an_unfit_image_is_an_error_that_names_its_place(tmp_path: Path, url: str, code: str, words: str) -> None:
    report = checked(tmp_path, chat(user([text(), image(url)]), assistant()))
    assert codes(report) == [(11, code)]
    assert report.errors[0].message.startswith("messages[0].content[1].image_url ")
    assert words in report.errors[0].message


def test_a_type_that_does_not_fit_the_bytes_is_a_warning(tmp_path: Path) -> None:
    report = checked(tmp_path, chat(user([image(data_url(picture("JPEG"), "image/png"))]), assistant()))
    assert (codes(report), report.errors) == ([(11, "image_mime")], [])


def test_an_address_that_ends_like_another_format_is_a_warning(tmp_path: Path) -> None:
    report = checked(tmp_path, chat(user([text(), image("https://example.com/a.GIF?size=3")]), assistant()))
    assert (codes(report), report.errors) == ([(11, "image_mime")], [])
    assert "is a gif file by its name" in report.warnings[0].message


def test_a_plain_http_address_is_a_warning_where_the_provider_takes_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *good(10), chat(user([text(), image("http://example.com/a.png")]), assistant()))
    assert codes(validate(path).files[0]) == [(11, "image_plain_http")]
    assert validate(path).ok
    assert codes(validate(path, target=LOCAL).files[0]) == [(11, "image_invalid")]


def test_azure_takes_64_images_an_example(tmp_path: Path) -> None:
    def found(n: int) -> list[tuple[int | None, str]]:
        path = write(tmp_path / f"{n}.jsonl", *good(10), chat(user([image()] * n), assistant()))
        return codes(validate(path, target=AZURE).files[0])

    assert (found(64), found(65)) == ([], [(11, "too_many_images")])


def test_ten_images_an_example_are_taken_and_eleven_are_not(tmp_path: Path) -> None:
    ten = chat(user([image()] * 10), assistant())
    eleven = chat(user([image()] * 11), assistant())
    assert codes(checked(tmp_path, ten, eleven)) == [(12, "too_many_images")]


def test_the_size_of_an_inlined_image_decides_its_tokens(tmp_path: Path) -> None:
    def tokens(size: tuple[int, int]) -> int:
        url = data_url(picture(size=size), "image/png")
        return checked(tmp_path, chat(user([image(url, detail="high"), text()]), assistant())).tokens_max

    assert tokens((1024, 1024)) - tokens((100, 100)) == 3 * 170  # four tiles against one
