"""What lies at a path: which kind of source reads it, and what its first rows look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from upath import UPath

from finetune_assets.dataset.belonging.named import split_pattern, split_word
from finetune_assets.dataset.column_looks import Column, profile
from finetune_assets.dataset.json_lines import kind as kind_of
from finetune_assets.dataset.reading import ENDINGS, rows
from finetune_assets.dataset.reading.encoding import NOT_DECODED
from finetune_assets.dataset.reading.json_records import json_value
from finetune_assets.dataset.reading.parquet import schema_names
from finetune_assets.dataset.sources import voc, yolo
from finetune_assets.dataset.sources.dicom import begins_so
from finetune_assets.dataset.sources.image_folder import IMAGE_ENDINGS, SPLIT_FOLDERS
from finetune_assets.errors import SourceError
from finetune_assets.onboarding import foreign
from finetune_assets.onboarding.pictures import uploads_folder
from finetune_assets.task.dialect import Dialect

Kind = Literal["table", "chat_jsonl", "image_qa", "image_folder", "label_studio", "coco", "voc", "yolo", "dicom"]

ROWS_LOOKED_AT = 20_000
_MAX_FILES = 200_000
_MAX_JSON_BYTES = 256 * 1024 * 1024
_TAGS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "AccessionNumber", "file")
"""By which a table of labels may join DICOM files, the most exact first."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, before anybody decides what it is for."""

    kind: Kind
    path: Path
    """The file or folder that the source reads."""
    words: str
    """It in a few words."""
    n_rows: int = 0
    """Rows that were looked at."""
    columns: list[Column] = field(default_factory=list)
    """Of a table, or of what stands beside a chat's messages or a task's annotations."""
    classes: dict[str, int] = field(default_factory=dict)
    """Classes or categories, with how often each occurs, where the layout itself names them."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the source's YAML has to say beside its parts, such as where the images are."""


def survey(path: Path, encoding: str | None = None) -> Survey:
    """Look at a file or folder.

    Args:
        path: What lies there.
        encoding: That of a table, where a person has said it.

    Raises:
        SourceError: there is nothing, or nothing that a source reads; the message says what was looked for.
    """
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder")
    if encoding is None:
        return _folder(path) if path.is_dir() else _file(path)
    try:
        dialect = Dialect(encoding=encoding)
    except ValidationError as error:
        raise SourceError(f"encoding: {error.errors(include_url=False)[0]['msg']}") from error
    found = _table(path, dialect=dialect)
    return replace(found, settings={**found.settings, "dialect": {"encoding": encoding}})


def _file(path: Path) -> Survey:
    ending = path.suffix.lower()
    if ending == ".json":
        return _json(path)
    if ending in (".jsonl", ".ndjson") and (beside := _chats(path)) is not None:
        return Survey("chat_jsonl", path, f"{path.name}: chats, one a line", len(beside), profile(beside))
    if ending in ENDINGS:
        return _table(path)
    what = f"a {ending} file" if ending else "a file without an ending"
    if told := foreign.file_told(path):
        raise SourceError(f"{path}: {told}")
    raise SourceError(f"{path}: no source reads {what}; tables end in {', '.join(ENDINGS)}")


def _table(path: Path, name: str | None = None, dialect: Dialect | None = None) -> Survey:
    found = list(islice(_records(path, dialect), ROWS_LOOKED_AT))
    if not found:
        raise SourceError(f"{path}: {_why_no_rows(path)}")
    if known := foreign.records_told(found[0]):
        raise SourceError(f"{path}: holds {known}")
    more = "the first " if len(found) == ROWS_LOOKED_AT else ""
    columns = profile(found)
    names = ", ".join(column.name for column in columns)
    words = f"{name or path.name}: a table, {more}{len(found):,} rows looked at, columns {names}"
    return Survey("table", path, words, len(found), columns)


def _records(path: Path, dialect: Dialect | None = None) -> Iterator[Mapping[str, Any]]:
    # Of a Parquet table only those columns are read that are asked for.
    names = schema_names(UPath(path)) if path.suffix.lower() == ".parquet" else ()
    for _, row in rows(UPath(path), (), names, dialect):
        if not isinstance(row, str):
            yield row


def _why_no_rows(path: Path) -> str:
    """Say what is wrong with the first row, where there is one."""
    number, row = next(((n, row) for n, row in rows(UPath(path), ()) if isinstance(row, str)), (0, ""))
    if row == NOT_DECODED:
        return "it is not UTF-8, and it is not certain what it is; name its encoding, as in --set encoding=shift_jis"
    return f"no row can be read, the first is {number}: {row}" if row else "it has no rows"


def _chats(path: Path) -> list[dict[str, Any]] | None:
    """What stands beside the messages of the first lines; None where they are no chats.

    Raises:
        SourceError: what the assistant does in them is to call.
    """
    beside: list[dict[str, Any]] = []
    for row in islice(_records(path), ROWS_LOOKED_AT):
        if not isinstance(row.get("messages"), list):
            return None
        if told := foreign.calls_told(row["messages"]):
            raise SourceError(f"{path}: {told}")
        keys = {name: value for name, value in row.items() if name not in ("messages", "tools", "metadata")}
        beside.append({**keys, **(row["metadata"] if isinstance(row.get("metadata"), dict) else {})})
    return beside or None


def _json(path: Path) -> Survey:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise SourceError(f"{path}: over {_MAX_JSON_BYTES // 2**20} MiB of JSON; save it as JSON Lines or Parquet")
    found = json_value(UPath(path))
    if isinstance(found, dict) and {"images", "annotations", "categories"} <= found.keys():
        return _coco(path, found)
    if isinstance(found, dict) and (told := foreign.records_told(found)):
        raise SourceError(f"{path}: holds {told}")
    entries = found if isinstance(found, list) else []
    first = next((entry for entry in entries if isinstance(entry, dict)), {})
    if {"data", "annotations"} <= first.keys():
        data = [entry["data"] for entry in entries[:ROWS_LOOKED_AT] if isinstance(entry.get("data"), dict)]
        columns, words = profile(data), f"{path.name}: Label Studio, {len(entries):,} tasks"
        pictured = next((column for column in columns if column.is_images), None)
        folder = uploads_folder(path.parent, pictured) if pictured else ""
        return Survey("label_studio", path, words, len(data), columns, settings={"images": folder} if folder else {})
    return _questions(path) if "filename" in first or path.name.startswith("qa_") else _table(path)


def _coco(path: Path, found: dict[str, Any]) -> Survey:
    lists = {name: found[name] for name in ("images", "annotations", "categories")}
    if wrong := next((name for name, part in lists.items() if not isinstance(part, list)), None):
        raise SourceError(f"{path}: {wrong} must be a list, found {kind_of(lists[wrong])}")
    names = {entry.get("id"): str(entry.get("name")) for entry in lists["categories"] if isinstance(entry, dict)}
    counts = Counter(names.get(entry.get("category_id")) for entry in lists["annotations"] if isinstance(entry, dict))
    classes = {name: counts[name] for name in names.values()}
    files = [str(image.get("file_name")) for image in lists["images"] if isinstance(image, dict)]
    where = next((name for name in ("images", "image", "data", path.stem) if _holds(path.parent / name, files)), None)
    settings = {"images": where} if where and not _holds(path.parent, files) else {}
    words = f"{path.name}: COCO, {len(files):,} images"
    return Survey("coco", path, words, len(files), classes=classes, settings=settings)


def _holds(folder: Path, files: list[str]) -> bool:
    return any((folder / file).is_file() for file in files[:20])


def _questions(path: Path) -> Survey:
    """A `qa_*.json` with the folder that its images are in."""
    part = path.stem.removeprefix("qa_")
    folders = [f"image_{part}", f"images_{part}", part, "images", "image", "imgs"]
    there = next((name for name in folders if (path.parent / name).is_dir()), None)
    if there is None:
        beside = sorted(folder.name for folder in path.parent.iterdir() if folder.is_dir())
        names = f"looked for {', '.join(folders[:3])}, found {', '.join(beside) or 'none'}"
        raise SourceError(f"{path}: no folder of images lies beside it; {names}")
    words = f"{path.name}: questions about the images in {there}"
    return Survey("image_qa", path, words, settings={"images": there})


def _folder(path: Path) -> Survey:
    files = [file for file in islice(path.rglob("*"), _MAX_FILES) if file.is_file() and not file.name.startswith(".")]
    if questions := sorted(file for file in files if file.name.startswith("qa_") and file.suffix == ".json"):
        return _many_questions(questions)
    if (path / "Annotations").is_dir() and any(file.suffix.lower() == ".xml" for file in files):
        classes = voc.categories(UPath(path))
        return Survey("voc", path, f"{path.name}: Pascal VOC", len(files), classes=classes)
    if any(file.parent.name == "labels" or "labels" in file.parts for file in files if file.suffix == ".txt"):
        classes = dict.fromkeys(yolo.class_names(UPath(path)).values(), 0)
        return Survey("yolo", path, f"{path.name}: YOLO", len(files), classes=classes)
    tables = sorted(file for file in files if file.suffix.lower() in ENDINGS)
    if scans := [file for file in files if file.suffix.lower() in (".dcm", ".dicom") or begins_so(UPath(file))]:
        return _scans(path, len(scans), tables)
    if len(tables) == 1:
        return _file(tables[0])
    return _several(path, tables) if tables else _by_class(path, files)


def _many_questions(files: list[Path]) -> Survey:
    first = _questions(files[0])
    if len(files) == 1:
        return first
    part = files[0].stem.removeprefix("qa_")
    settings = {"images": str(first.settings["images"]).replace(part, "*"), "region_from_path": r"qa_(.+)\.json"}
    return Survey("image_qa", files[0].parent / "qa_*.json", f"{len(files)} files of questions", settings=settings)


def _scans(path: Path, n: int, tables: list[Path]) -> Survey:
    """DICOM files, with the table beside them that has one of their tags as a column."""
    for table in tables:
        found = _table(table)
        names = {column.name for column in found.columns}
        if join := next((tag for tag in _TAGS if tag in names), None):
            settings = {"labels": str(table.absolute()), "join": join}
            words = f"{path.name}: {n:,} DICOM files, labels in {table.name} by {join}"
            return Survey("dicom", path, words, found.n_rows, found.columns, settings=settings)
    tags = ", ".join(_TAGS)
    raise SourceError(f"{path}: holds DICOM files and no table of labels; it needs one with a column {tags}")


def _several(path: Path, tables: list[Path]) -> Survey:
    """Tables of one kind with the same columns are one table in parts; others have to be told apart by a person."""
    if told := foreign.several_told(tables, path):
        raise SourceError(f"{path}: {told}")
    if all(table.suffix.lower() in (".jsonl", ".ndjson") for table in tables) and (beside := _chats(tables[0])):
        words = f"{path.name}: chats, one a line, in {len(tables)} files"
        return Survey("chat_jsonl", path, words, len(beside), profile(beside), settings=_split_settings(tables))
    headers = {tuple(sorted(column.name for column in _table(table).columns)) for table in tables[:20]}
    if len({table.suffix.lower() for table in tables}) == 1 and len(headers) == 1:
        found = _table(tables[0], f"{len(tables)} files such as {tables[0].name}")
        return Survey("table", path, found.words, found.n_rows, found.columns, settings=_split_settings(tables))
    names = ", ".join(str(table.relative_to(path)) for table in tables[:8])
    raise SourceError(f"{path}: holds several tables ({names}); name the one that has the labels")


def _split_settings(files: list[Path]) -> dict[str, str]:
    """What a source says where each of its files is a published split."""
    pattern = split_pattern(files)
    return {"split_from_path": pattern} if pattern and all(map(split_word, files)) else {}


def _by_class(path: Path, files: list[Path]) -> Survey:
    counts: Counter[str] = Counter()
    splits: set[str] = set()
    for file in files:
        folders = file.relative_to(path).parts[:-1]
        classes = [name for name in folders if name.lower() not in SPLIT_FOLDERS]
        if file.suffix.lower() in IMAGE_ENDINGS and classes:
            counts[classes[-1]] += 1
            splits |= {name.lower() for name in folders} & SPLIT_FOLDERS
    if len(counts) < 2:
        raise SourceError(f"{path}: holds neither a table nor folders of images by class; name the file of the labels")
    words = f"{path.name}: {counts.total():,} images in folders by class: {', '.join(sorted(counts)[:10])}"
    settings = {"split": "{split}"} if len(splits) > 1 else {}
    return Survey("image_folder", path, words, counts.total(), classes=dict(sorted(counts.items())), settings=settings)
