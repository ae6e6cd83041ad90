"""Region and group out of the names of images, such as `north_P012_slice03.png`: only where the names are clear.

A group is a word for patients or things with a number, which several images share. A region is a word at one place of
all names, with enough images of each and more than one answer: a class that stands in the name is the answer and no
region. What is proposed is a regular expression on the name, which is shown and may be corrected.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from finetune_assets.dataset.belonging.named import split_called
from finetune_assets.dataset.identity import matched

BY = " by "
"""Between a column and the pattern on it, in what a person is shown and may say."""
_GROUPS = (
    *("p", "pat", "patient", "pt", "sub", "subj", "subject", "case", "study", "panel", "module", "modul", "scene"),
    *("video", "vid", "series", "session", "animal", "device", "batch", "lot", "person", "proband", "fall"),
    *("paciente", "pac", "sujet", "sujeto", "caso"),
)
_LEAST_GROUPS = 3
_NUMBERED = re.compile(r"([^\W\d_]+)[0-9]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_SEPARATORS = "_- "


def parted(said: str) -> tuple[str, str | None]:
    """Part what is said of a region or group into its column and the pattern on it, None where there is none."""
    column, by, pattern = said.partition(BY)
    return column.strip(), pattern.strip() if by else None


def group_pattern(names: Iterable[str]) -> str | None:
    """Find the pattern of the group that images' names tell; None where they tell none clearly."""
    files = list(dict.fromkeys(map(_below, names)))
    words = {found[1] for found in map(_NUMBERED.fullmatch, _fields(files[0]) if files else ()) if found}
    for word in sorted(words):
        pattern = rf"(?:^|[/\\_ -])({word}[0-9]+)[/\\_. -]"
        groups = _matches(pattern, files)
        if word.casefold() in _GROUPS and groups and _LEAST_GROUPS <= len(set(groups)) <= len(files) / 2:
            return pattern
    return None


def region_pattern(pictured: Sequence[tuple[str, str]], least: int) -> str | None:
    """Find the pattern of the region that images' names tell; None where they tell none clearly.

    Args:
        pictured: Name of the image of each example, and its answer.
        least: Examples that a region needs on average.
    """
    for separator in _SEPARATORS:
        rows = [PurePath(name.replace("\\", "/")).stem.split(separator) for name, _ in pictured]
        n_fields = {len(row) for row in rows}
        if len(n_fields) != 1 or n_fields == {1}:
            continue
        for at in range(n_fields.pop()):
            answers: dict[str, set[str]] = defaultdict(set)
            for row, (_, answer) in zip(rows, pictured, strict=True):
                answers[row[at]].add(answer)
            if _are_regions(answers, len(rows), least):
                before = rf"(?:[^/\\{separator}]+{separator}){{{at}}}" if at else ""
                return rf"(?:^|[/\\]){before}([^/\\{separator}]+)[{separator}.]"
    return None


def region_folder(pictured: Sequence[tuple[str, str]], folder: Path, least: int) -> str | None:
    """Find the column of the folder between the source's and the classes' that is a region; None where none clearly is.

    Args:
        pictured: Path of the image of each example, and its answer.
        folder: Of the source.
        least: Examples that a region needs on average.
    """
    above = [PurePath(name).relative_to(folder.absolute()).parts[:-2] for name, _ in pictured]
    for at in range(min(map(len, above), default=0)):
        answers: dict[str, set[str]] = defaultdict(set)
        for folders, (_, answer) in zip(above, pictured, strict=True):
            answers[folders[at]].add(answer)
        numbered = all(found and found[1].casefold() in _GROUPS for found in map(_NUMBERED.fullmatch, answers))
        if not numbered and _divide(answers, len(above), least):
            return f"folders.{at}"
    return None


def _are_regions(answers: dict[str, set[str]], n: int, least: int) -> bool:
    return all(map(_WORD.fullmatch, answers)) and _divide(answers, n, least)


def _divide(answers: dict[str, set[str]], n: int, least: int) -> bool:
    """Whether names divide the examples as regions do: some of each answer in each, and none is a published split."""
    several = 1 < len(answers) <= n / least and all(len(found) > 1 for found in answers.values())
    return several and all(split_called(value) is None for value in answers)


def _matches(pattern: str, names: Iterable[str]) -> list[str]:
    """What the pattern finds in each name; nothing unless it finds something in all."""
    found = [matched(match) if (match := re.search(pattern, name)) else "" for name in names]
    return found if all(found) else []


def _below(name: str) -> str:
    """The name with the folder that it lies in, which may be a patient's."""
    return "/".join(PurePath(name.replace("\\", "/")).parts[-2:])


def _fields(name: str) -> list[str]:
    return re.split(r"[/_ .-]", name)
