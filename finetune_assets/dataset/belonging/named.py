"""What a source says itself: the group of each record, and the split that it was published in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from upath import UPath

from finetune_assets.dataset.identity import folded, group_name, is_missing, matched
from finetune_assets.errors import SourceError
from finetune_assets.task import Split

# fmt: off
_PUBLISHED: dict[str, Split] = {
    "train": "train", "training": "train", "trn": "train",
    "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "development": "validation",
    "test": "test", "testing": "test", "held-out": "test", "holdout": "test",
    "calibration": "calibration", "calib": "calibration", "cal": "calibration",
}
# fmt: on
"""What splits are called where they are published."""
_MAX_NAMES = 200
_SHOWN_NAMES = 20


class Named:
    """One thing that the task's YAML names in the records, such as `source.group`, followed while they stream by.

    It has to be in one of them at least: a misspelt name would otherwise mean that nothing belongs together.
    """

    def __init__(self, key: str, written: str | None, pattern: str | None = None) -> None:
        self._key = key
        self._written = written
        self._pattern = pattern
        self._seen: dict[str, None] = {}
        self._example = ""
        self._is_there = False

    @property
    def by_pattern(self) -> bool:
        """Whether a pattern says which part of a value is meant."""
        return self._pattern is not None

    def name(self, value: str, names: Iterable[str]) -> str:
        """Return the one name of what a record holds, "" where it holds nothing or the pattern does not match.

        Args:
            value: What stands in the named place; "" for nothing.
            names: What the record could have been asked for, for the error's sake.
        """
        if not self._is_there and len(self._seen) < _MAX_NAMES:
            self._seen.update(dict.fromkeys(names))
        if self._pattern is not None:
            self._example = self._example or value
            found = re.search(self._pattern, value)
            value = matched(found) if found else ""
        named = group_name(value)
        self._is_there = self._is_there or bool(named)
        return named

    def require(self, path: object) -> None:
        """Refuse a source of which no record had it.

        Raises:
            SourceError: it is in none of the records that were read; there was at least one.
        """
        if self._written is None or self._is_there or not self._seen:
            return
        if self._pattern is not None and self._example:
            raise SourceError(f"{path}: nothing matches {self._key} {self._pattern!r}, first {self._example!r}")
        columns = re.findall(r"\{([^{}]+)\}", self._written) or [self._written]
        raise SourceError(
            f"{path}: {self._key} is {self._written!r}, and no record has {_nearest(columns, self._seen)}"
        )


def published(value: object, splits: Mapping[str, Split] | None, key: str) -> Split | None:
    """Return the split that a record was published in; None where it says nothing.

    Args:
        value: What the record says.
        splits: The task's own words for splits, `source.splits`; by default those in common use.
        key: What the YAML calls it, for the error's sake.

    Raises:
        SourceError: it is none of the known words.
    """
    if value is None or is_missing(str(value)):
        return None
    words = dict(_PUBLISHED)
    if splits is not None:
        words = dict(zip(map(folded, splits), splits.values(), strict=True))
    found = words.get(folded(str(value)))
    if found is None:
        example = f"splits: {{{str(value)[:40]}: train}}"
        known = f"{key} holds {str(value)[:40]!r}, which is none of {', '.join(words)}"
        raise SourceError(f"{known}; say under `source` what each of the data's words means, such as {example}")
    return found


def split_of_file(path: UPath, pattern: str | None, splits: Mapping[str, Split] | None) -> Split | None:
    """Return the split that a file was published as, by its name or else its folder's; None without a pattern.

    Raises:
        SourceError: neither name matches, or it holds no known word.
    """
    if pattern is None:
        return None
    found = re.search(pattern, path.name) or _whole(pattern, path.parent.name)
    word = matched(found) if found else ""
    if not word:
        raise SourceError(
            f"{path}: neither its name nor its folder's matches source.split_from_path {pattern!r}; name such files too"
        )
    return published(word, splits, "source.split_from_path")


def _whole(pattern: str, name: str) -> re.Match[str] | None:
    """The match that is all of a folder's name: `test` is a split, and `test_data` may hold several."""
    found = re.search(pattern, name)
    return found if found is not None and found[0] == name else None


def split_pattern(paths: Iterable[UPath | Path]) -> str | None:
    """Return a `split_from_path` for files that seem to be published splits, one of them a test; else None.

    `train.csv` says it, `train-00000-of-00002.parquet` and `train/metadata.jsonl`. Without a test of their own they
    have to be cut anew.
    """
    words = {split_word(path) for path in paths} - {""}
    found = {split_called(word) for word in words}
    return f"^({'|'.join(sorted(words))})" if "test" in found and len(found) > 1 else None


def split_word(path: UPath | Path) -> str:
    """The word for a split by which a file is called, or else all of its folder; "" where there is none."""
    folder = path.parent.name
    return _word(path.name) or (folder if split_called(folder) else "")


def _word(name: str) -> str:
    """The first word of a name where a split is commonly published under it, else nothing."""
    word = re.split(r"[-_.0-9]", name, maxsplit=1)[0]
    return word if split_called(word) else ""


def split_in(name: str) -> Split | None:
    """Return the split that the first word of a file's or folder's name says: `train-00000-of-00002` is train."""
    return split_called(_word(name))


def split_called(name: str) -> Split | None:
    """Return the split that is commonly published under a name, None for another name."""
    return _PUBLISHED.get(folded(name))


def _nearest(columns: Collection[str], seen: Collection[str]) -> str:
    lacking = [column for column in columns if column not in seen] or list(columns)
    close = get_close_matches(lacking[0], seen, 1, 0.6)
    hint = f"; did you mean {close[0]!r}?" if close and close[0] != lacking[0] else ""
    there = ", ".join(list(seen)[:_SHOWN_NAMES])
    return f"{' and '.join(lacking)}{hint} They have {there}" if hint else f"{' and '.join(lacking)}; they have {there}"
