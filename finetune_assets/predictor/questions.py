"""What is asked of a champion, and files of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_assets.dataset.json_lines import JsonProblem, lines


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; None for `text` is the task's own question about every image."""

    text: str | None = None
    image: str | Path | None = None
    problem: str | None = None
    """Why a line of a file is no question; it is answered with this error."""


def read_questions(path: Path) -> Iterator[Question]:
    """Read a JSONL file of questions; each line has `image` (a path relative to the file, or a URL), `text` or both.

    A line that is none of that is a question with a `problem`, which names the file, the line and what was found.
    """
    for number, found in lines(path):
        if isinstance(found, JsonProblem):
            yield Question(problem=f"{path} line {number}: {found.message}")
            continue
        text, image = found.get("text"), found.get("image")
        if not isinstance(text, str | None) or not isinstance(image, str | None) or text is image is None:
            wanted = '{"image": "...", "text": "..."}, or one of both'
            yield Question(problem=f"{path} line {number}: expected {wanted}, got {str(found)[:200]}")
            continue
        yield Question(text, str(path.parent / image) if image and "://" not in image else image)
