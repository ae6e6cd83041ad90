"""Bring a task over from a model that will be shut down, while it still answers.

The old model answers inputs that nobody has labelled, and its answers are the labels of a new task (pseudo-labels, Lee
2013): people see those that it was least sure of, and any provider can train on all of them. Where the old task has
labels of its own, both models then answer its test split and are compared pair by pair. Answers are kept as they come,
so that none is paid for twice.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from finetune_assets.asking.predictions import Asked, predict
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.image_addresses import ImageAddresses
from finetune_assets.dataset.image_looks import Look, Looker
from finetune_assets.dataset.image_store import ImageStore
from finetune_assets.dataset.sources.image_folder import image_files
from finetune_assets.errors import TaskError
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.page import to_html
from finetune_assets.evaluation.benchmark.report import BenchmarkReport
from finetune_assets.evaluation.shares import accuracy_interval
from finetune_assets.evaluation.statistics import Interval, verdict
from finetune_assets.predictor import LONGEST_NUMBER, Question, read_questions
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.client import connect
from finetune_assets.results.files import write_atomically, write_json
from finetune_assets.results.region import Outputs, Region
from finetune_assets.results.standing import standing
from finetune_assets.task import Task
from finetune_assets.task.answers import NumberAnswer
from finetune_assets.task.sources import TableSource, window_of

if TYPE_CHECKING:
    import pandas as pd

SURE = 0.9
"""Nobody is asked about an answer to which the old model gave at least this probability."""
TABLES = "*.jsonl"
"""The labelled tables in the new task's folder, one for each region."""
DOUBT = "{doubt}"
SAMPLING = {"train": 0.7, "validation": 0.05, "calibration": 0.15, "test": 0.1}
"""Of the new task: the old one's own test split judges both models, so most of the inputs are learned from."""
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Teacher:
    """The model that will be shut down, as a task asks it."""

    task: Task
    model: str
    outputs: Outputs

    def said(self, examples: pd.DataFrame, say: Callable[[str], None]) -> pd.DataFrame:
        """Return its answers to examples, as `predict` does."""
        with AnswerCache(Path(self.outputs.answers)) as cache:
            return predict(connect(self.task.provider), Asked(self.model, self.task), examples, "base", cache, say)


@dataclass(frozen=True, slots=True)
class Labelled:
    """What the old model said about a region's inputs."""

    table: Path
    n: int
    """Labelled rows."""
    n_for_people: int
    """Of these, the rows whose label a reviewer is to confirm."""
    n_unweighed: int
    """Of these, the rows whose answer came without a probability, so that nobody knows how sure it is."""
    refused: tuple[str, ...]
    """Why each of the other inputs has no label."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"table": str(self.table)}


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near the new model comes to the old one, on labelled examples that the new one did not learn from."""

    report: BenchmarkReport
    """The old model is its `base`."""
    agreement: Interval
    """Share of the examples that both answer alike, right or wrong."""
    n_left_out: int
    """Test examples that are left out, because the new model learned from the same input."""
    page: UPath

    def to_dict(self) -> dict[str, Any]:
        """Return what it adds to the report, as JSON."""
        return {"agreement": asdict(self.agreement), "n_left_out": self.n_left_out, "page": str(self.page)}


def label(
    teacher: Teacher, region: str, inputs: Path, folder: Path, people: float, say: Callable[[str], None]
) -> Labelled:
    """Have the old model label a region's inputs, and write them as a table of the new task.

    Args:
        teacher: Who is asked.
        region: The region that all inputs are of.
        inputs: A folder of images, or a JSONL file of questions as `predict` reads it.
        folder: The new task's folder; the table is `<region>.jsonl` in it.
        people: The greatest share of the inputs that is marked as doubtful, the least sure first.
        say: Is told how far it is.

    Raises:
        TaskError: there is no input that can be asked about, or the model answered none of them in the task's words.
        ProviderError: the provider does not answer, or no longer has the model.
    """
    if isinstance(getattr(teacher.task.source, "images", None), list | tuple):
        raise TaskError(f"{teacher.task.task} shows several images with a question, which cannot be labelled this way")
    asked, refused = _inputs(teacher, region, inputs)
    if asked.empty:
        raise TaskError(f"nothing of {inputs} can be asked about: {refused[0] if refused else 'it holds no input'}")
    said = teacher.said(asked, say)
    unread = said["predicted"].isna()
    for image, text, error in said.loc[unread, ["image", "text", "error"]].itertuples(index=False):
        refused.append(f"{image}: {error}" if isinstance(error, str) else f"{image}: unreadable answer {text!r}")
    known = said.loc[~unread].assign(image=asked.loc[~unread, "named"])
    if not len(known):
        raise TaskError(f"{teacher.model} labelled nothing of {inputs}: {refused[0]}")
    doubtful = least_sure(known["p_predicted"].to_list(), people)
    rows = [
        _row(row, region, folder, teacher.model if number in doubtful else None)
        for number, row in enumerate(known.to_dict("records"))
    ]
    table = folder / f"{region}.jsonl"
    write_atomically(UPath(table), "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
    unweighed = int(known["p_predicted"].isna().sum())
    return Labelled(table, len(rows), len(doubtful), unweighed, tuple(refused))


def least_sure(chances: Sequence[float], people: float) -> set[int]:
    """Number the answers of which the model was least sure: at most this share of all, and none that it was `SURE` of.

    An answer without a probability (NaN: a number, or a provider that gives none) is not doubted.
    """
    unsure = sorted((p, number) for number, p in enumerate(chances) if p < SURE)
    return {number for _, number in unsure[: int(people * len(chances))]}


def successor(teacher: Teacher, name: str, folder: Path, to: str, inputs: Path) -> dict[str, Any]:
    """Return the new task's attributes: the old task's, with the labelled tables in `folder` as their source."""
    old = teacher.task.model_dump(mode="json", exclude_unset=True)
    gone = ("deployment", "prices", "source", "sampling", "in_use", "provider", "description", "task")
    source: dict[str, Any] = {"kind": "table", "path": TABLES, "question": "{question}"}
    tables = sorted(folder.glob(TABLES))
    if any('"image": ' in table.read_text("utf-8").partition("\n")[0] for table in tables):
        source |= {"image": "{image}", "image_root": os.path.relpath(_root(inputs), folder)}
        if (window := getattr(teacher.task.source, "window", None)) is not None:
            source["window"] = list(window)
    return {
        "task": name,
        "description": f"Labels are answers of {teacher.model}, but for those that people gave.",
        "source": source | {"answer": "{answer}", "region": "{region}", "doubt": DOUBT},
        "sampling": dict(SAMPLING),
        "provider": to,
        **{key: value for key, value in old.items() if key not in gone},
        "regions": [table.stem for table in tables],
    }


def require_room(task: Task, region: str, inputs: Path, folder: Path) -> None:
    """Refuse to label for a task that is there already and would not read the labels, before anything is asked.

    Raises:
        TaskError: it reads something else, not this region, or images of another folder.
    """
    source = task.source
    if not isinstance(source, TableSource) or (source.path, source.doubt) != (TABLES, DOUBT):
        raise TaskError(f"{folder} holds a task that was not made by a rescue: take another name by --into")
    if task.regions is not None and region not in task.regions:
        raise TaskError(f"{folder} holds a task without the region {region}: add it to `regions` there first")
    if source.image_root is not None and not _below(inputs, (folder / source.image_root).resolve()):
        raise TaskError(
            f"{folder} holds a task whose images lie in {source.image_root}, and {inputs} is elsewhere: name a folder "
            "that holds both as `image_root` there, or take another name by --into"
        )


def compared(teacher: Teacher, student: Task, region: str, say: Callable[[str], None]) -> Nearness | None:
    """Ask both models the old task's test split, and write the page; None where the old task has no labels there.

    Raises:
        TaskError: the new task has no champion in this region yet, or learned from all of the test split.
        ProviderError: a provider does not answer, or no longer has the model.
    """
    import pandas as pd

    old, new = Region(teacher.task, region, teacher.outputs), Region(student, region, teacher.outputs)
    labelled, learned = (of.path("filtered_qa", ".parquet") for of in (old, new))
    if not labelled.exists():
        return None
    champion = standing(new).champion
    if champion is None:
        raise TaskError(f"{student.task}/{region} has no champion yet: finetune-assets demo --task {student.task}")
    examples = pd.read_parquet(str(labelled))
    test = examples.loc[examples["split"] == "test"]
    fresh = test.loc[~_seen(test, pd.read_parquet(str(learned)))]
    if not len(fresh):
        raise TaskError(f"{student.task}/{region} learned from all {len(test)} test examples: label other inputs")
    answers = teacher.said(fresh, say)
    with AnswerCache(Path(teacher.outputs.answers)) as cache:
        asked = Asked(champion.model, student)
        found = predict(connect(champion.provider), asked, fresh, "fine_tuned", cache, say)
    report = compare(pd.concat([answers, found], ignore_index=True), student.answer, metric=student.benchmark.metric)
    decisive = report.decisive
    words = verdict(report.outcome, decisive.difference, report.p_value, decisive.label.lower(), "new model")
    alike = (answers["predicted"] == found["predicted"]).to_numpy()
    agreement = accuracy_interval(alike, answers["group"].to_numpy())
    return _written(replace(report, verdict=words), agreement, new, len(test) - len(fresh))


def _written(report: BenchmarkReport, agreement: Interval, region: Region, n_left_out: int) -> Nearness:
    """Write the comparison as a page and as JSON."""
    alike = f"{agreement.estimate:.1%} of {report.n} [{agreement.low:.1%}, {agreement.high:.1%}]"
    note = f"The base is the old model. Both answer alike in {alike}."
    if n_left_out:
        note += f" {n_left_out} more are left out: the new model learned from their inputs."
    page = region.path("rescue", ".html")
    title = f"{region.task.task}, {region.name}: the old model and the new one"
    write_atomically(page, to_html(report, title=title, note=note).encode())
    found = Nearness(report, agreement, n_left_out, page)
    write_json(region.path("rescue", ".json"), report.to_dict() | found.to_dict())
    return found


def _inputs(teacher: Teacher, region: str, inputs: Path) -> tuple[pd.DataFrame, list[str]]:
    """The questions about the inputs as rows of `filtered_qa` with a column `named`, and why others are none."""
    import pandas as pd

    answer = teacher.task.answer
    longest = answer.template.replace("{}", LONGEST_NUMBER) if isinstance(answer, NumberAnswer) else ""
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    store = ImageStore(UPath(teacher.outputs.root) / teacher.task.task / "images")
    examples = _examples(teacher.task, region, inputs)
    window = window_of(teacher.task.source)
    with tempfile.TemporaryFile() as scratch, Looker(scratch, ImageAddresses(store), window) as looker:
        while some := list(islice(examples, _CHUNK)):
            looks = looker.looks([None if example.problem else example.image for example in some])
            for example, look in zip(some, looks, strict=True):
                if why := example.problem or (look.error and str(look.error)):
                    refused.append(f"{example.image or example.id}: {why}")
                else:
                    rows.append(_asked(example, look) | {"answer": longest})
    return pd.DataFrame(rows), refused


def _asked(example: Example, look: Look) -> dict[str, Any]:
    """The columns of `filtered_qa` that a question needs, and where its image was named."""
    return {
        "example_id": example.id,
        "split": "train",
        "group": example.id,
        "question": example.question,
        "score": math.nan,
        "image": look.address,
        "image_fit": look.facts is not None and look.facts.fit,
        "image_format": look.facts and look.facts.format,
        "named": example.image,
    }


def _examples(task: Task, region: str, inputs: Path) -> Iterator[Example]:
    """Every input as an example without a label."""
    own = getattr(task.source, "question", None)
    question = own if isinstance(own, str) and "{" not in own else None
    if inputs.is_dir():
        found = ((str(path), None, None) for path in image_files(UPath(inputs)))
    else:
        found = ((asked.image and str(asked.image), asked.text, _fault(asked)) for asked in read_questions(inputs))
    for number, (image, text, problem) in enumerate(found, 1):
        asked = text or question
        if problem is None and asked is None:
            problem = f"the task {task.task} has no question of its own: give a `text` in each line"
        yield Example(
            id=f"input {number}", region=region, source=str(inputs), question=asked or "", image=image, problem=problem
        )


def _root(inputs: Path) -> Path:
    """The folder that holds the inputs."""
    return inputs if inputs.is_dir() else inputs.parent


def _below(inputs: Path, folder: Path) -> bool:
    return _root(inputs).resolve().is_relative_to(folder)


def _fault(asked: Question) -> str | None:
    return asked.problem or ("it has several images, about which nothing is asked here" if asked.images else None)


def _row(said: dict[Any, Any], region: str, folder: Path, doubted_by: str | None) -> dict[str, Any]:
    """One row of the new task's table."""
    p, image = said["p_predicted"], said["image"]
    row = {"question": said["question"], "answer": said["predicted"], "region": region, "doubt": None}
    if isinstance(image, str):
        row["image"] = image if "://" in image else os.path.relpath(image, folder)
    if p == p:
        row["probability"] = round(p, 6)
    if doubted_by is not None:
        row["doubt"] = f"{doubted_by} gave this answer a probability of {p:.2f}"
    return row


def _seen(test: pd.DataFrame, learned: pd.DataFrame) -> Any:
    """Whether the new model was made with each test example's input: the same image, else the same question."""
    pictures = list(learned["image_sha256"].dropna())
    texts = list(learned.loc[learned["image_sha256"].isna(), "question"])
    by_image = test["image_sha256"].isin(pictures)
    return (by_image | (test["image_sha256"].isna() & test["question"].isin(texts))).to_numpy()
