import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune_assets.dataset.images import data_url
from finetune_assets.training_file import look_alikes
from finetune_assets.training_file.validation import validate
from finetune_assets_tests.training_file.chats import assistant, chat, codes, good, image, text, user, write

Found = list[tuple[int | None, str]]


def leaks(folder: Path, training: list[dict[str, Any]], held_out: list[dict[str, Any]], *, alike: bool = True) -> Found:
    """Findings on the validation file. The training file also holds ten good examples, after those given."""
    train = write(folder / "train.jsonl", *training, *good(10))
    files = validate(train, write(folder / "validation.jsonl", *held_out), alike=alike).files
    return codes(files[1])


def asked(question: str, answer: str = "Yes") -> dict[str, Any]:
    return chat(user(question), assistant(answer))


def photo(number: int) -> Image.Image:
    """A picture of its own."""
    coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)


def part(number: int) -> Image.Image:
    """A part before a fixed camera: always the same, but for noise."""
    pixels = np.full((240, 320, 3), 90, np.float32)
    pixels[60:180, 80:240] = 190
    pixels += np.random.default_rng(number).normal(0, 4, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def shown(*pictures: Image.Image, question: str = "Is it cracked?", quality: int = 92) -> dict[str, Any]:
    parts = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        parts.append(image(data_url(buffer.getvalue(), "image/jpeg")))
    return chat(user([text(question), *parts]), assistant())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of land 0?", "What's the capital of land 0 ?"),
        ("What is the capital of land 0?", "what is the capital of land 0"),
        ("What is the capital of land 0?", "Please, what is  capital of land 0?!"),
        ("It isn\u2019t a near-equal text, is it?", "It is not a near equal text \u2013 is it?"),
        ("Qu'est-ce que la chlorophylle ?", "Qu\u2019est-ce que la chlorophylle?"),
        ("\u6c34\u7684\u6cb8\u70b9\u662f\u591a\u5c11\uff1f", "\u6c34\u7684\u6cb8\u70b9\u662f\u591a\u5c11"),
    ],
)
def test_a_question_that_is_only_put_down_otherwise_leaks(tmp_path: Path, one: str, other: str) -> None:
    assert leaks(tmp_path, [asked(one)], [asked(other)]) == [(1, "leak")]
    assert leaks(tmp_path, [asked(one)], [asked(other)], alike=False) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of land 0?", "What is the capital of land 1?"),
        ("What is the capital of Austria?", "What is the capital of Australia?"),
        ("What is the charge of nitrate?", "What is the charge of nitrite?"),
        ("Is A above B?", "Is B above A?"),
        ("Is it warm?", "Is it not warm?"),
        ("What is 3.5 plus 1?", "What is 35 plus 1?"),
        ("What is -5 plus 2?", "What is 5 plus 2?"),
        ("Is 10-20 the range?", "Is 10 20 the range?"),
        ("Is 5 % enough?", "Is 5 $ enough?"),
        ("What is the code of 'a'?", "What is the code of 'A'?"),
        ("What does '!' mean here?", "What does '?' mean here?"),
        ("Is `x = 1` valid C?", "Is `x = 1;` valid C?"),
        ("What is the area in m\u00b2?", "What is the area in m2?"),
        ("?!", "!?"),
    ],
)
def test_questions_that_differ_in_a_number_a_name_or_a_sign_are_others(tmp_path: Path, one: str, other: str) -> None:
    assert leaks(tmp_path, [asked(one)], [asked(other)]) == []


def test_one_question_about_different_images_is_no_leak(tmp_path: Path) -> None:
    training = [shown(photo(n)) for n in range(8)]
    assert leaks(tmp_path, training, [shown(photo(n)) for n in range(20, 24)]) == []


@pytest.mark.parametrize("quality", [30, 85])
def test_a_recompressed_or_resized_image_leaks_on_each_line_that_it_stands_in(tmp_path: Path, quality: int) -> None:
    training = [shown(photo(n)) for n in range(8)]
    copy, small = photo(3), photo(5).resize((160, 120))
    held_out = [
        shown(copy, quality=quality),
        shown(photo(30)),
        shown(small),
        shown(copy, question="Why?", quality=quality),
    ]
    assert leaks(tmp_path, training, held_out) == [(1, "leak"), (3, "leak"), (4, "leak")]
    assert leaks(tmp_path, training, held_out, alike=False) == []


def test_the_line_of_the_image_that_is_most_alike_is_named(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", *good(10), *[shown(photo(n)) for n in range(8)])
    held_out = write(tmp_path / "validation.jsonl", shown(photo(6), quality=50))
    [_, file] = validate(train, held_out, alike=True).files
    assert "looks like that of line 17 of the training file" in file.errors[0].message


def test_parts_that_all_look_alike_are_no_copies_of_each_other(tmp_path: Path) -> None:
    training = [shown(part(n), question=f"Part {n}?") for n in range(12)]
    assert leaks(tmp_path, training, [shown(part(n), question=f"Part {n}?") for n in range(50, 54)]) == []


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_that_stands_beside_many_others_for_comparison_is_no_leak(tmp_path: Path, turned: bool) -> None:
    def compared(n: int) -> dict[str, Any]:
        pictures = photo(100 + n % 2), photo(n)  # one of two parts without fault, and the part to be judged
        return shown(*(pictures[::-1] if turned else pictures))

    training = [compared(n) for n in range(12)]
    assert leaks(tmp_path, training, [compared(n) for n in range(20, 24)]) == []
    assert leaks(tmp_path, training, [compared(20), shown(photo(101), photo(7))]) == [(2, "leak")]


def test_images_beyond_those_that_are_looked_at_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_alikes, "MAX_IMAGES", 2)
    training = [shown(photo(n)) for n in range(2)]
    assert leaks(tmp_path, training, [shown(photo(n)) for n in range(10, 13)]) == [(None, "not_compared")]


def test_images_behind_addresses_are_compared_by_their_address_alone(tmp_path: Path) -> None:
    def at(name: str) -> dict[str, Any]:
        return chat(user([text(), image(f"https://example.com/{name}.png")]), assistant())

    assert leaks(tmp_path, [at("a")], [at("b"), at("a")]) == [(2, "leak")]
