"""What the first rows of a source's tables show and the task's YAML does not say.

A column of patients or of published splits that nobody names, spellings that meet in one region, images that are called
the same, entries of lists that are passed over, and how the files were found to be written.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, product

from upath import UPath

from finetune_assets.dataset.answer_reading.number_format import NumberFormat, parse_number
from finetune_assets.dataset.belonging.named import split_called, split_in, split_pattern
from finetune_assets.dataset.identity import group_name, region_name
from finetune_assets.dataset.reading import ENDINGS, record_name, rows, table_files
from finetune_assets.dataset.reading.cells import Cells, cell, text
from finetune_assets.dataset.reading.delimited import layout_of
from finetune_assets.dataset.reading.numbers import NumberColumn
from finetune_assets.dataset.sources.filling import filled, only_column, region_of
from finetune_assets.dataset.sources.image_folder import below, image_files, split_of
from finetune_assets.dataset.sources.places import locate, locate_all
from finetune_assets.dataset.sources.tables import Table
from finetune_assets.dataset.sources.unshown import unshown
from finetune_assets.errors import SourceError
from finetune_assets.task.all_sources import Source
from finetune_assets.task.annotations import ImageFolderSource, YoloSource
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer
from finetune_assets.task.sources import (
    ChatJsonlSource,
    ImageQaSource,
    ScoredImagesSource,
    TableSource,
    answers_of,
    columns_in,
)

N_ROWS = 20_000
"""Of a source that are looked at: the whole of most, and a second of the largest."""
MAX_ABOVE = 0.02
"""Share of scores above 1 that may be mistakes of single rows."""
_MAX_SHOWN = 5
# fmt: off
_WHO = (
    "patient", "subject", "participant", "person", "proband", "case", "study", "series", "scene", "video", "clip",
    "sequence", "specimen", "slide",
)
# fmt: on
_NUMBERED = ("", "id", "no", "nr", "num", "number", "nummer", "name", "code", "key", "uid", "instanceuid")
_KEYS = frozenset(f"{who}{end}" for who, end in product((*_WHO, "pat", "patienten"), _NUMBERED)) - {"pat", "patienten"}
"""What columns are called by which rows belong together, without signs and in small letters."""
_PEOPLE = frozenset(
    f"{who}{end}" for who, end in product(("annotator", "rater", "reader", "labeler", "labeller", "grader"), _NUMBERED)
)
"""What columns are called that tell who answered."""
_OF_ONE = re.compile(
    r"(?i)(annotator|rater|reader|label+er|grader|reviewer|expert|doctor|radiologist|label|rating|grade|vote|diagnosis)"
    r"[\W_]*\d{1,2}"
)
"""What a column is called that holds the answers of one person of several."""
_WEIGHTS = frozenset(("weight", "voteweight", "annotatorweight", "raterweight", "confidence", "trust", "reliability"))
"""What columns are called that tell how much a vote weighs."""
_FIRST_ROWS = 100
_MOST_SPLITS = 6
"""A column of more values holds something else."""
_SERIES = r"(.*\d)(?:[-_ ]+[A-Za-z]*|[A-Za-z]+)\d+\.\w+$"
"""The name of an image that is numbered within something that is numbered itself: `p3_s01.png` is of `p3`."""
_DATE = re.compile(r"(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d")
_LONGEST_NAME = 200
_FEWEST_SERIES, _MANY_IN_SERIES = 3, 3
_MANY = 0.5
"""Share of names that many folders have; single ones are chance."""
_IN_PARQUET = ["group", "annotator", "rater", "reader"] + [
    spelled for who in _WHO for spelled in (who, who.title(), f"{who}_id", f"{who}Id", f"{who.title()}ID", f"{who}id")
]
"""Of a Parquet table only the columns are read that are asked for."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """What was noticed, in words."""

    doubts: tuple[str, ...] = ()
    """What may be other than it is meant."""
    written: str = ""
    """How the first file is written, as its dialect was found: a delimited one, and answers that are numbers."""


def notice(source: Source, region: str, answer: Answer) -> Noticed:
    """Look at the first `N_ROWS` rows of a source of tables, for what concerns one region.

    Raises:
        SourceError: the source cannot be read.
    """
    if isinstance(source, ImageFolderSource | YoloSource):
        return Noticed((told,) if (told := _folders(source)) else ())
    if isinstance(source, ChatJsonlSource | ImageQaSource):
        return Noticed((told,) if (told := _files(source)) else ())
    if not isinstance(source, TableSource | ScoredImagesSource):
        return Noticed()
    found = [_spelled(source, region), _unused(source, region), _votes(source), _weighted(source)]
    found += [
        _published(source),
        _beside(source),
        _files(source),
        _passed_over(source),
        unshown(source, answer, _paths(source)) if isinstance(source, TableSource) else "",
        _same_names(source),
        _numbered(source),
    ]
    if isinstance(source, ScoredImagesSource) and isinstance(answer, BinaryAnswer) and source.values is None:
        found.append(_scale(source))
    written = "; ".join(filter(None, [_written(source), _numbers(source, answer)]))
    return Noticed(tuple(filter(None, found)), written)


def columns_there(source: Source, names: list[str]) -> list[str]:
    """Return which of these columns the first row of a source of tables has.

    Raises:
        SourceError: the source cannot be read.
    """
    if not isinstance(source, TableSource | ScoredImagesSource):
        return []
    for path in _paths(source):
        for _, row in rows(path, _needed(source), names, source.dialect):
            return [name for name in names if not isinstance(row, str) and name in row]
    return []


def _paths(source: TableSource | ScoredImagesSource) -> list[UPath]:
    return [file for place in locate_all(source.path, source.folder) for file in table_files(place)]


def _needed(source: TableSource | ScoredImagesSource) -> list[str]:
    """The columns that make a header one; not the image's, which may hold the whole image."""
    return list(dict.fromkeys([*columns_in("".join(_answers(source))), *columns_in(source.region)]))


def _answers(source: TableSource | ScoredImagesSource) -> list[str]:
    return [source.score] if isinstance(source, ScoredImagesSource) else answers_of(source)


def _rows(source: TableSource | ScoredImagesSource) -> Iterator[Cells]:
    def all_rows() -> Iterator[Cells]:
        for path in _paths(source):
            optional = _IN_PARQUET if path.suffix.lower() == ".parquet" else []
            read = partial(rows, path, _needed(source), optional, source.dialect)
            yield from (row for _, row in Table(path, record_name(path), read).rows() if not isinstance(row, str))

    return islice(all_rows(), N_ROWS)


def _spelled(source: TableSource | ScoredImagesSource, region: str) -> str:
    """Say how the rows of a region spell it, where that is in several ways; "" for one."""
    if not columns_in(source.region) or source.region_pattern is not None:
        return ""
    spelled: Counter[str] = Counter()
    for row in _rows(source):
        written = unicodedata.normalize("NFC", filled(source.region, row, source.dialect.empties)).strip()
        if written and region_name(written) == region:
            spelled[written] += 1
    if len(spelled) < 2:
        return ""
    ways = ", ".join(f"{written[:40]!r} ({n} rows)" for written, n in spelled.most_common(_MAX_SHOWN))
    return f"several spellings are one region: {ways}; if they are different ones, rename one"


def _unused(source: TableSource | ScoredImagesSource, region: str) -> str:
    """Say which column seems to tell what belongs together, though the task names no group; "" for none."""
    if source.group is not None:
        return ""
    used = {*columns_in(source.region), *columns_in(getattr(source, "annotator", None) or "")}
    values: dict[str, Counter[str]] = {}
    for row in _rows(source):
        if isinstance(source, ScoredImagesSource) and "group" in row:
            return ""
        if region_of(source, row) != region:
            continue
        for column in row.keys() - used:
            if re.sub(r"[\W_]+", "", column).lower() in _KEYS and (value := group_name(cell(row, column))):
                values.setdefault(column, Counter())[value] += 1
    for column, counted in sorted(values.items()):
        if 1 < len(counted) < counted.total():
            return (
                f"{column} has {len(counted)} values in {counted.total()} rows and names no group, so the rows of one "
                f'may stand in several splits: write `group: "{{{column}}}"` under source'
            )
    return ""


def _votes(source: TableSource | ScoredImagesSource) -> str:
    """Say which column seems to tell who answered, though the task names no annotator; "" for none."""
    if not isinstance(source, TableSource) or source.annotator is not None or source.answers is not None:
        return ""
    people: dict[str, set[str]] = {}
    for row in _rows(source):
        for column in row:
            if re.sub(r"[\W_]+", "", column).lower() in _PEOPLE and (who := group_name(cell(row, column))):
                people.setdefault(column, set()).add(who)
    for column, names in sorted(people.items()):
        if len(names) > 1:
            return (
                f"{column} names {len(names)} people, whose answers to one question are duplicates or contradict each "
                f'other unless they are votes: write `annotator: "{{{column}}}"` under source'
            )
    return ""


def _beside(source: TableSource | ScoredImagesSource) -> str:
    """Say which columns seem to hold the answers of several people, of which one alone is read; "" for none."""
    if (
        not isinstance(source, TableSource)
        or source.answers is not None
        or (read := only_column(source.answer)) is None
    ):
        return ""
    said: dict[str, set[str]] = {}
    for row in islice(_rows(source), _FIRST_ROWS):
        for column in row:
            if (whose := _OF_ONE.fullmatch(column)) and whose[1] == (_OF_ONE.fullmatch(read) or ("", ""))[1]:
                said.setdefault(column, set()).add(text(cell(row, column)))
    if len(said) < 2 or not set.intersection(*said.values()) - {""}:
        return ""
    written = ", ".join(f'"{{{name}}}"' for name in sorted(said))
    return (
        f"{', '.join(sorted(said))} seem to be answers of several people, of which {read} alone is read: write "
        f"`answers: [{written}]` under source, and the majority is the label"
    )


def _weighted(source: TableSource | ScoredImagesSource) -> str:
    """Say which column seems to weigh votes, which all count alike; "" for none."""
    if not isinstance(source, TableSource) or source.annotator is None:
        return ""
    names = {column for row in islice(_rows(source), _FIRST_ROWS) for column in row}
    weights = sorted(name for name in names if re.sub(r"[\W_]+", "", name).lower() in _WEIGHTS)
    return f"the votes count alike, whatever {weights[0]} says of them" if weights else ""


def _published(source: TableSource | ScoredImagesSource) -> str:
    """Say which column seems to hold published splits that the task does not use; "" for none."""
    if source.split is not None:
        return ""
    values: dict[str, set[str]] = {}
    for row in _rows(source):
        for column, found in row.items():
            if isinstance(found, str) and len(seen := values.setdefault(column, set())) < _MOST_SPLITS:
                seen.add(found.strip().lower())
    for column, seen in sorted(values.items()):
        if 1 < len(seen) < _MOST_SPLITS and all(split_called(value) for value in seen):
            return _not_as_published(column, seen, column)
    return ""


def _folders(source: ImageFolderSource | YoloSource) -> str:
    """Say which folders seem to be published splits that the task does not use; "" for none."""
    if source.split is not None:
        return ""
    folder = locate(source.path, source.folder)
    found = {split_of(below(folder, file)[:-1]) for file in islice(image_files(folder), N_ROWS)} - {""}
    return _not_as_published("the folders", found, "split") if len(found) > 1 else ""


def _files(source: TableSource | ScoredImagesSource | ChatJsonlSource | ImageQaSource) -> str:
    """Say which files seem to be published splits that the task does not use; "" for none."""
    own = source.split if isinstance(source, TableSource | ScoredImagesSource) else source.split_field
    if own is not None or source.split_from_path is not None:
        return ""
    endings = {ChatJsonlSource: (".jsonl", ".ndjson"), ImageQaSource: (".json",)}.get(type(source), ENDINGS)
    files = [file for place in locate_all(source.path, source.folder) for file in table_files(place, endings)]
    if (pattern := split_pattern(files)) is None:
        return ""
    names = [file.name if split_in(file.name) else f"{file.parent.name}/{file.name}" for file in files[:_MAX_SHOWN]]
    return (
        f"the files {', '.join(names)} seem to be published splits, which are mixed and cut anew unless "
        f"they are used: write `split_from_path: '{pattern}'` under source"
    )


def _not_as_published(where: str, found: Iterable[str], column: str) -> str:
    return (
        f"{where} {', '.join(sorted(found))} seem to be published splits, which are mixed and cut anew unless they are "
        f'used: write `split: "{{{column}}}"` under source'
    )


def _passed_over(source: TableSource | ScoredImagesSource) -> str:
    """Say that of several entries of a list only the one is read that the answer names; "" where there is one."""
    for column in columns_in("".join(_answers(source))):
        parts = column.split(".")
        for at in (at for at, part in enumerate(parts) if at and part.isdigit()):
            outer = ".".join(parts[:at])
            n = sum(isinstance(found := cell(row, outer), list) and len(found) > 1 for row in _rows(source))
            if n:
                known = (
                    "; a Label Studio export is read whole by `kind: label_studio`" if outer == "annotations" else ""
                )
                return f"in {n} rows {outer} has several entries, of which only the one at {parts[at]} is read{known}"
    return ""


def _same_names(source: TableSource | ScoredImagesSource) -> str:
    """Say that files in several folders are called the same, which no group ties together; "" where none are."""
    if source.group is not None or source.image is None or not columns_in(source.image):
        return ""
    folders: dict[str, set[str]] = {}
    for row in _rows(source):
        folder, _, name = filled(source.image, row, ()).replace("\\", "/").rpartition("/")
        if folder and "://" not in folder:
            folders.setdefault(name, set()).add(folder)
    shared = [name for name, several in folders.items() if len(several) > 1]
    if len(shared) < max(2, _MANY * len(folders)):
        return ""
    one, other = sorted(folders[shared[0]])[:2]
    return (
        f"{len(shared)} of {len(folders)} images are called as others in another folder ({one}/{shared[0]}, "
        f"{other}/{shared[0]}); if they show the same thing they may stand in several splits: write "
        f"`group: \"{source.image}\"` and `group_pattern: '([^/]+)$'` under source"
    )


def _numbered(source: TableSource | ScoredImagesSource) -> str:
    """Say that images are numbered in several rows that no group ties (`p3_s01`, `p3_s02`, `p4_s01`); "" if not."""
    if source.group is not None or source.image is None or len(columns_in(source.image)) != 1:
        return ""
    series: dict[str, set[str]] = {}
    for row in _rows(source):
        name = filled(source.image, row, ()).replace("\\", "/").rpartition("/")[2]
        if len(name) < _LONGEST_NAME and not _DATE.search(name) and (found := re.match(_SERIES, name)):
            series.setdefault(found[1], set()).add(name)
    n = sum(map(len, series.values()))
    if len(series) < _FEWEST_SERIES or n < _MANY_IN_SERIES * len(series):
        return ""
    one, other = list(series)[:2]
    return (
        f"{n} images are numbered in {len(series)} series ({one}, {other}, ...); if one shows the same patient, part "
        f'or scene, its images may stand in several splits: write `group: "{source.image}"` and '
        f"`group_pattern: '{_SERIES}'` under source"
    )


def _scale(source: ScoredImagesSource) -> str:
    """Say that scores seem to be of another scale than 0 to 1, where some are above 1 and some at most; "" if not."""
    above = below = 0
    for row in _rows(source):
        written = filled(source.score, row, source.dialect.empties)
        if "%" not in written and (value := parse_number(written, NumberFormat(".", ","))):
            above, below = above + (value > 1), below + (value <= 1)
    if above < max(2, MAX_ABOVE * (above + below)) or not below:
        return ""
    return (
        f"{above} of {above + below} scores are above 1, so the {below} others, which are read as they are, may be of "
        "another scale too: divide all by the highest possible one"
    )


def _numbers(source: TableSource | ScoredImagesSource, answer: Answer) -> str:
    """Say how the first file writes the numbers that are answers; "" where they are no texts."""
    column = only_column(_answers(source)[0])
    if column is None or not isinstance(answer, NumberAnswer) or source.values is not None:
        return ""

    def texts() -> Iterator[tuple[str, object]]:
        cells = (cell(row, column) for row in _rows(source))
        yield from (("", found) for found in cells if isinstance(found, str))

    if next(texts(), None) is None:
        return ""
    try:
        found = NumberColumn(_paths(source)[0], column, texts, source.dialect).format
    except SourceError:  # the rows that were looked at do not prove it; all of them may
        return ""
    return f"{column} has {found.decimal!r} as its decimal sign and {found.thousands!r} to group digits"


def _written(source: TableSource | ScoredImagesSource) -> str:
    for path in _paths(source):
        if path.suffix.lower() in (".csv", ".tsv"):
            found = layout_of(path, _needed(source), _needed(source), source.dialect)
            more = ", one more at the end of each line" if found.one_more else ""
            return f"{path.name}: {found.encoding.removesuffix('-sig')}, cells divided by {found.delimiter!r}{more}"
    return ""
