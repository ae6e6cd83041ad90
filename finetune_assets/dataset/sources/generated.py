"""Image questions that are drawn, in the layout of `image_qa`.

`markers` are white images with two pairs of letters, as in the ablation study of the MIRP benchmark (Wolf et al.,
MICCAI 2025), here a red and a blue one, and a question about where the red pair lies.

Everything follows from the seed. Half of the answers are yes; the two pairs are apart on the axis that is asked about,
anywhere on the other. A region's files are drawn at its first use and kept in `var/data`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import orjson
from upath import UPath

from finetune_assets.dataset.contact_sheets import draw_texts
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import image_qa
from finetune_assets.dataset.table import replacing
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import Answer
from finetune_assets.task.sources import GeneratedSource, ImageQaSource

_VAR = Path("var/data")
"""What is drawn lies here, and can be drawn again."""
_PHRASES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_SIDE = 224
_LETTERS = "ABCDEFGHKLMNPRSTUVWXYZ"
_LETTER_HEIGHT = 40
_COLOURS = ("red", "blue")
"""Of the first and the second pair: the bundled vision model is too small to read letters, but sees colours."""
_APART = 70
"""Least distance of two pairs' centres on the axis that is asked about; a pair is about 60 pixels wide."""
_MARGIN = 36


def read(source: GeneratedSource, region: str, answer: Answer) -> Iterator[Example]:
    """Stream the questions of one relation; its images are drawn first where they are not there yet.

    Raises:
        SourceError: there is no such relation.
    """
    if not region:
        return chain.from_iterable(read(source, relation, answer) for relation in _PHRASES)
    if region not in _PHRASES:
        raise SourceError(f"source generated, {source.what}: has the regions {', '.join(_PHRASES)}, not {region}")
    table = _made(source, region)
    drawn = ImageQaSource.model_validate(
        {"kind": "image_qa", "path": str(table), "images": "image_letters", "region": region}
    )
    return image_qa.read(drawn, region, answer)


def regions(_: GeneratedSource) -> Iterator[str]:
    """Stream the relations."""
    return iter(_PHRASES)


def _made(source: GeneratedSource, region: str) -> Path:
    """Return the table of a region's questions; it is written last, so where it is, all its images are."""
    folder = _VAR.absolute() / f"{source.what}-coloured-{source.seed}-{source.count}" / region
    table = folder / "qa_letters.json"
    if not table.exists():
        (folder / "image_letters").mkdir(parents=True, exist_ok=True)
        randoms = random.Random(f"{source.seed} {region}")
        entries = [_entry(folder / "image_letters", region, number, randoms) for number in range(source.count)]
        _write(table, orjson.dumps(entries, option=orjson.OPT_INDENT_2))
    return table


def _write(path: Path, data: bytes) -> None:
    with replacing(UPath(path)) as file:
        file.write(data)


def _entry(folder: Path, region: str, number: int, randoms: random.Random) -> dict[str, object]:
    """Draw one image and return its entry; even numbers are answered with yes."""
    letters = randoms.sample(_LETTERS, 4)
    first, second = "".join(letters[:2]), "".join(letters[2:])
    low = randoms.randint(_MARGIN, _SIDE - _MARGIN - _APART)
    high = randoms.randint(low + _APART, _SIDE - _MARGIN)
    across = [randoms.randint(_MARGIN, _SIDE - _MARGIN) for _ in range(2)]
    is_so = number % 2 == 0
    first_is_low = is_so == (region in ("left", "above"))
    along = (low, high) if first_is_low else (high, low)
    horizontal = region in ("left", "right")
    centres = [(a, b) if horizontal else (b, a) for a, b in zip(along, across, strict=True)]
    filename = f"{region}_{number:05d}.png"
    image = draw_texts((_SIDE, _SIDE), list(zip((first, second), _COLOURS, centres, strict=True)), _LETTER_HEIGHT)
    _write(folder / filename, image)
    asked = [f"the {colour} letters {text}" for colour, text in zip(_COLOURS, (first, second), strict=True)]
    question = f"Are {asked[0]} {_PHRASES[region]} {asked[1]}?"
    pair = {"object1": first, "object2": second, "question": question, "answer": int(is_so)}
    for name, (x, y) in zip(("object1", "object2"), centres, strict=True):
        pair |= {f"{name}_center_x": x, f"{name}_center_y": y}
    return {"filename": filename, "question_answer": [pair]}
