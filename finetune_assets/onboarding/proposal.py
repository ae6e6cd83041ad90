"""From what lies there, and what a person has said about it, to all that a task's YAML says."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from finetune_assets.dataset import sources
from finetune_assets.dataset.column_looks import Column
from finetune_assets.dataset.example import Example
from finetune_assets.errors import TaskError
from finetune_assets.onboarding.answers import answer_of, plain_numbers
from finetune_assets.onboarding.columns import Part, candidates, require_several
from finetune_assets.onboarding.file_names import BY, group_pattern, parted, region_folder, region_pattern
from finetune_assets.onboarding.pictures import placed, without_ending
from finetune_assets.onboarding.questions import NONE, made_up, showing_choices, together
from finetune_assets.onboarding.survey import ROWS_LOOKED_AT, Survey
from finetune_assets.task.all_sources import Source
from finetune_assets.task.answers import TextAnswer
from finetune_assets.task.sources import columns_in

OWN = "the file's own"
"""Parts that a chat or a list of questions holds already."""
PARTS = (
    *("task", "question", "answer", "kind", "category", "image", "region", "group", "split", "annotator"),
    *("provider", "model", "encoding"),
)
"""`kind` is that of the answer: binary, choice, number or text; `category` is that of drawn objects; `encoding` that of
a table which is not UTF-8."""
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_DRAWN = ("coco", "voc", "yolo")
_UNTELLING = re.compile(r"qa_\*|(train|validation|test|data)(-[0-9]+-of-[0-9]+)?")
"""Names of files that many data sets have; their folder says more."""
MIN_EXAMPLES_OF_A_REGION = 40
"""Regions with fewer on average are not proposed: nothing could be said of a model by so few."""
MAX_REGIONS = 200


@dataclass(frozen=True, slots=True)
class Proposal:
    """A task that is not written yet."""

    attributes: dict[str, Any]
    """What its YAML says under `attributes`."""
    parts: dict[str, str]
    """What was taken for each of `PARTS`, in words that a person may change; "none" where there is nothing."""
    others: dict[str, list[str]]
    """What else each part could be."""


def propose(survey: Survey, stated: Mapping[str, str]) -> Proposal:
    """Propose a task.

    Args:
        survey: What lies there.
        stated: What a person has said of some of `PARTS`, which goes before everything that is found.

    Raises:
        SourceError: the data cannot be read as proposed.
        TaskError: no column can be the question, or the answer.
    """
    parts, others = _parts(survey, stated)
    if missing := next((part for part in ("question", "answer") if parts[part] == NONE), None):
        names = ", ".join(column.name for column in survey.columns)
        raise TaskError(f"no column can be the {missing}; name it by --set {missing}=COLUMN: {names}")
    signs: list[str] = []
    if survey.kind == "table" and "question" not in stated:
        taken = {said.strip("{}") for part, said in parts.items() if part != "question"}
        free = [column for column in survey.columns if column.name not in taken]
        parts["question"], signs = showing_choices(parts["question"], _answer_column(survey, parts), free)
    parts |= _told_by_names(survey, _source(survey, parts), parts, stated)
    source = _source(survey, parts)
    if _is_scored(survey, parts) and stated.get("kind") in (None, "binary"):
        source, answer = _scored(source), {"kind": "binary", "positive": "Yes", "negative": "No"}
    else:
        answer = _answer(survey, source, parts, stated.get("kind"))
    if signs and stated.get("kind") is None:
        answer = {"kind": "choice", "options": signs}
    parts["kind"] = _words(answer)
    has_images = parts["image"] != NONE and survey.kind != "chat_jsonl"
    model = stated.get("model") or ("gpt-4o-2024-08-06" if has_images else "gpt-4o-mini-2024-07-18")
    parts["model"] = model
    if "split" in survey.settings and parts["split"] == NONE:
        parts["split"] = "split"
    attributes = {
        "task": parts["task"],
        "regions": "discover" if _has_regions(parts) or "region_from_path" in survey.settings else ["all"],
        "source": source,
        "sampling": {"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15, "seed": 42},
        "prompt": {"user": "{question}" if survey.kind == "chat_jsonl" else _prompt(answer, "\n" if signs else " ")},
        "answer": answer,
        "base_model": model,
        "provider": parts["provider"],
    }
    return Proposal(attributes, parts, others)


def _source(survey: Survey, parts: Mapping[str, str]) -> dict[str, Any]:
    return {"kind": survey.kind, "path": _written(survey.path), **_of_kind(survey, parts)}


def _told_by_names(
    survey: Survey, source: Mapping[str, Any], parts: Mapping[str, str], stated: Mapping[str, str]
) -> dict[str, str]:
    """The group and the region that no column has and the images' names tell, as a pattern on what names them."""
    image = next(iter(columns_in(parts["image"])), parts["image"])
    columns = {"table": image, "image_qa": "filename", "image_folder": "name"}
    column = columns.get(survey.kind, NONE)
    wanted = {part for part in ("group", "region") if parts[part] == NONE and part not in stated}
    if "region_from_path" in source:
        wanted.discard("region")
    if column == NONE or not wanted:
        return {}
    read = islice(_all_of(source), ROWS_LOOKED_AT)
    pictured = [(row.image, row.answer or "") for row in read if isinstance(row.image, str)]
    found = {
        "group": group_pattern(name for name, _ in pictured),
        "region": region_pattern(pictured, MIN_EXAMPLES_OF_A_REGION),
    }
    told = {part: f"{column}{BY}{pattern}" for part, pattern in found.items() if pattern}
    if survey.kind == "image_folder":
        in_folders = region_folder(pictured, Path(source["path"]), MIN_EXAMPLES_OF_A_REGION)
        told |= {"region": in_folders} if in_folders else {}
    return {part: said for part, said in told.items() if part in wanted}


def task_name(path: Path) -> str:
    """Make a task's name of a path: lower case, digits and `_`."""
    named = path.parent.absolute().name if _UNTELLING.fullmatch(path.stem) else path.stem
    letters = unicodedata.normalize("NFD", named.casefold().translate(_UMLAUTS))
    plain = re.sub(r"[^a-z0-9]+", "_", "".join(one for one in letters if not unicodedata.combining(one))).strip("_")
    return plain if plain[:1].isalpha() else f"task_{plain}".rstrip("_")


def _parts(survey: Survey, stated: Mapping[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    parts = {"task": stated.get("task") or task_name(survey.path), "provider": stated.get("provider") or "local"}
    parts["encoding"] = stated.get("encoding") or "as found"
    others: dict[str, list[str]] = {}
    left = asked = list(survey.columns)
    parts |= _own_parts(survey, stated)
    order: tuple[Part, ...] = ("image", "split", "annotator", "group", "region", "answer", "question")
    for part in order:
        if parts.get(part) is not None:
            continue
        found = [column for column in candidates(left, part) if part != "region" or _is_region(column, survey)]
        if part == "question" and parts["image"] == NONE:  # what is asked of every row alike tells none from another
            found = [column for column in found if not column.is_constant]
        others[part] = [column.name for column in found]
        if part == "answer" and part not in stated:
            require_several(survey.columns, found, survey.n_rows)
        chosen = stated.get(part) or (found[0].name if found else NONE)
        parts[part] = chosen
        if part == "image":
            chosen, parts[part] = _placed(survey, left, found, stated.get(part))
        asked = left
        left = [column for column in left if column.name != chosen.strip("{}")]
    if "question" not in stated:
        parts["question"] = together(parts["question"], asked) or parts["question"]
    if parts["question"] == NONE:
        region = parts["region"].strip("{}") if _has_regions(parts) else ""
        pictured = parts["image"] != NONE
        parts["question"] = made_up(left, _answer_column(survey, parts), pictured=pictured, region=region)
    if "region_from_path" in survey.settings:
        parts["region"] = OWN
    if survey.kind == "dicom":
        parts |= {"region": stated.get("region", "all"), "group": stated.get("group", "PatientID")}
    return parts, others


def _placed(survey: Survey, left: list[Column], found: list[Column], said: str | None) -> tuple[str, str]:
    """The column of a table's images, and how the source says it; both "none" where there is none."""
    named = next((column for column in survey.columns if column.name == said), None) if said else None
    if said and named is None:
        return said, said
    column = named or next(iter(found), None)
    if survey.kind != "table" or survey.path.is_dir():  # then each table names what lies beside itself
        return (column.name, column.name) if column else (NONE, NONE)
    if column is not None:
        return column.name, placed(survey.path.parent, column)
    bare = without_ending(survey.path.parent, left)
    return (NONE, NONE) if bare is None else (bare[0].name, bare[1])


def _answer_column(survey: Survey, parts: Mapping[str, str]) -> Column | None:
    return next((column for column in survey.columns if column.name == parts["answer"].strip("{}")), None)


def _own_parts(survey: Survey, stated: Mapping[str, str]) -> dict[str, str]:
    """What the layout itself says, so that no column has to be found for it."""
    if survey.kind in _DRAWN:
        known = sorted(survey.classes, key=lambda name: -survey.classes[name])
        category = stated.get("category") or (known[0] if stated.get("kind") != "choice" and known else NONE)
        asks = "How many of {category} are there in this image?" if stated.get("kind") == "number" else None
        which = "Which of these does this image show?" if category == NONE else "Is there a {category} in this image?"
        question = stated.get("question") or asks or which
        drawn = {"answer": OWN, "image": OWN, "group": NONE, "split": NONE, "annotator": NONE}
        return {"category": category, "question": question, **drawn}
    if survey.kind in ("chat_jsonl", "image_qa"):
        return {"question": OWN, "answer": OWN, "image": OWN, "category": NONE, "annotator": NONE}
    if survey.kind == "table":
        return {"category": NONE}
    return {"annotator": NONE, **_own_of_a_layout(survey)}


def _own_of_a_layout(survey: Survey) -> dict[str, str]:
    own = {"answer": OWN, "category": NONE} if survey.kind != "dicom" else {"image": OWN, "category": NONE}
    return own | ({"image": OWN} if survey.kind == "image_folder" else {})


def _is_region(column: Column, survey: Survey) -> bool:
    return column.n_distinct <= MAX_REGIONS and survey.n_rows >= MIN_EXAMPLES_OF_A_REGION * column.n_distinct


def _has_regions(parts: Mapping[str, str]) -> bool:
    return parts["region"] not in (NONE, OWN, "all")


def _of_kind(survey: Survey, parts: Mapping[str, str]) -> dict[str, Any]:
    """What the source says beside `kind` and `path`."""
    match survey.kind:
        case "chat_jsonl":
            region = {"region_field": parts["region"]} if _has_regions(parts) else {"region": "all"}
            group = {"group_field": parts["group"]} if parts["group"] != NONE else {}
            return survey.settings | region | group
        case "image_qa":
            patterns = {f"{part}_pattern": parted(parts[part])[1] for part in ("group", "region")}
            found = {**survey.settings, **{key: pattern for key, pattern in patterns.items() if pattern}}
            return found if {"region_from_path", "region_pattern"} & found.keys() else {**found, "region": "all"}
        case "coco" | "voc" | "yolo":
            category = {} if parts["category"] == NONE else {"category": parts["category"]}
            return {**survey.settings, **category, "question": parts["question"], "region": "all"}
        case _:
            return survey.settings | _columns(parts, {column.name for column in survey.columns})


def _columns(parts: Mapping[str, str], names: Set[str]) -> dict[str, str]:
    """The columns of a table as its source names them; a text that is no column is taken as it is."""
    found = {
        part: _braced(parted(parts[part])[0])
        for part in ("image", "answer", "group", "split", "annotator")
        if parts[part] not in (NONE, OWN)
    }
    question = parts["question"]
    # A column may be called by the question that its cells answer.
    is_text = "{" in question or question.endswith("?") or (" " in question and question not in names)
    found["question"] = question if is_text else _braced(question)
    found["region"] = _braced(parted(parts["region"])[0]) if _has_regions(parts) else "all"
    for part in ("group", "region"):
        if (pattern := parted(parts[part])[1]) is not None:
            found[f"{part}_pattern"] = pattern
    return found


def _braced(column: str) -> str:
    return column if "{" in column else f"{{{column}}}"


def _is_scored(survey: Survey, parts: Mapping[str, str]) -> bool:
    """Whether images have scores from 0 to 1, as several experts or a detector give them."""
    column = _answer_column(survey, parts)
    votes = parts["annotator"] != NONE
    if survey.kind != "table" or parts["image"] == NONE or votes or column is None or not column.is_numbers:
        return False
    numbers = [float(value) for value in plain_numbers(column.values)]
    most = 100 if all("%" in value for value in column.values) else 1
    return len(numbers) > 2 and all(0 <= number <= most for number in numbers)


def _scored(source: Mapping[str, Any]) -> dict[str, Any]:
    """The same source as one of scored images: above 0.5 is yes, and what is in doubt goes to a reviewer."""
    renamed = {("score" if key == "answer" else key): value for key, value in source.items()}
    return renamed | {"kind": "scored_images", "doubtful_between": [0.4, 0.6]}


def _answer(survey: Survey, source: Mapping[str, Any], parts: Mapping[str, str], kind: str | None) -> dict[str, Any]:
    if survey.kind in _DRAWN and kind == "number":
        return {"kind": "number", "decimals": 0, "minimum": 0}
    return answer_of(*_labels(survey, source, parts), kind=kind)


def _labels(survey: Survey, source: Mapping[str, Any], parts: Mapping[str, str]) -> tuple[Mapping[str, int], bool]:
    """How often each label occurs, and whether there are more than these."""
    if survey.kind in _DRAWN:
        return (survey.classes if parts["category"] == NONE else {"yes": 1, "no": 1}), False
    column = _answer_column(survey, parts)
    if survey.kind in ("table", "dicom") and column is not None:
        return column.values, column.has_more
    if survey.classes:
        return survey.classes, False
    labels = Counter(example.answer for example in islice(_all_of(source), ROWS_LOOKED_AT) if example.answer)
    return labels, False


def _all_of(source: Mapping[str, Any]) -> Iterator[Example]:
    """Read a source as if it had one region and its answers were texts."""
    everywhere = {key: value for key, value in source.items() if not key.startswith("region")} | {"region": "all"}
    return sources.read(TypeAdapter(Source).validate_python(everywhere), "all", TextAnswer(kind="text"))


def _words(answer: Mapping[str, Any]) -> str:
    match answer["kind"]:
        case "binary":
            return f"binary: {answer['positive']} or {answer['negative']}"
        case "choice":
            return f"choice: {', '.join(answer['options'])}"
        case kind:
            return kind


def _prompt(answer: Mapping[str, Any], between: str) -> str:
    """The question with what may be answered, which a model has to be told; `between` stands between the two."""
    match answer["kind"]:
        case "binary":
            return f"{{question}}{between}Answer {answer['positive']} or {answer['negative']}."
        case "choice":
            return f"{{question}}{between}Answer with one of: {', '.join(answer['options'])}."
        case "number":
            return "{question} Answer with a number."
        case _:
            return "{question}"


def _written(path: Path) -> str:
    """A path as the YAML file names it: relative to the working directory where it lies below, which may be moved."""
    # `here/../data` begins as what lies below does, and does not.
    absolute, here = path.resolve() if ".." in path.parts else path.absolute(), Path.cwd()
    # `.` would be the folder of the YAML file, which is looked into first.
    below = absolute != here and absolute.is_relative_to(here)
    return str(absolute.relative_to(here)) if below else str(absolute)
