"""What is asked of a champion, and files of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_assets.dataset.json_lines import JsonProblem, lines


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; None for `text` is the task's own question about every image."""

    text: str | None = None
    image: str | Path | None = None
    images: tuple[str | Path, ...] = ()
    """Of a task that shows several, all of them, in the order of its `images`; `image` is one by itself."""
    problem: str | None = None
    """Why a line of a file is no question; it is answered with this error."""

    @property
    def given(self) -> list[str | Path]:
        """All its images."""
        return [*([] if self.image is None else [self.image]), *self.images]


def read_questions(path: Path) -> Iterator[Question]:
    """Read a JSONL file of questions.

    Each line has `image` (a path relative to the file, or a URL) or the list `images`, `text`, or both. A line that is
    none of that is a question with a `problem`, which names the file, the line and what was found.
    """
    for number, found in lines(path):
        if isinstance(found, JsonProblem):
            yield Question(problem=f"{path} line {number}: {found.message}")
            continue
        text, image, several = found.get("text"), found.get("image"), found.get("images")
        named: list[Any] = [one for one in (image, several) if one is not None]
        if image is None and isinstance(several, list):
            named = several
        are_paths = all(isinstance(one, str) for one in named)
        if not isinstance(text, str | None) or not are_paths or (text is None and not named):
            wanted = '{"image": "...", "text": "..."}, or one of both, or a list `images` instead of `image`'
            yield Question(problem=f"{path} line {number}: expected {wanted}, got {str(found)[:200]}")
            continue
        paths = [one if "://" in one else str(path.parent / one) for one in named]
        yield Question(text, paths[0] if image else None, images=() if image else tuple(paths))
