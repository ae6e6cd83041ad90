"""A region's examples as the stages will see them: what is set aside, what each split gets, and whether that suffices.

All rows are read, sampled and filtered by the stages' own functions; only the images are not all opened. Those of some
examples are. The bytes of the first `N_HASHED` are read, for the splits hang on them where no group is named; an image
after these is known by its path, so that copies under other names are found by the stages alone.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import median_low

import pandas as pd
from upath import UPath

from finetune_assets.dataset import images, splits
from finetune_assets.dataset.corrections import DTYPES as DECISIONS
from finetune_assets.dataset.corrections import Reviewed
from finetune_assets.dataset.example import Example
from finetune_assets.dataset.filtering import Filtered, filter_examples
from finetune_assets.dataset.given_away import GivenAway
from finetune_assets.dataset.image_addresses import ImageAddresses, is_elsewhere
from finetune_assets.dataset.image_looks import Looker
from finetune_assets.dataset.image_store import ImageStore
from finetune_assets.dataset.quarantine import Reason
from finetune_assets.dataset.sampling import sample
from finetune_assets.dataset.sources import discover, read
from finetune_assets.dataset.sources.noticed import notice
from finetune_assets.dataset.table import records
from finetune_assets.errors import ImageError, SourceError
from finetune_assets.pipeline.checks import data_checks
from finetune_assets.pipeline.shown import data_views
from finetune_assets.preflight import costs, seeds
from finetune_assets.preflight.finding import Finding, Remark, State
from finetune_assets.preflight.names import refused
from finetune_assets.task import Task
from finetune_assets.task.faults import nearest
from finetune_assets.task.sources import window_of

MAX_REGIONS = 50
"""Regions of a task that are looked at in one go."""
MIN_LEFT = 0.1
"""Share of the examples; where fewer can be used, why the others cannot is all there is to say."""
N_IMAGES = 40
"""Images of a region that are opened."""
N_HASHED = 1_000
"""Images of a region whose bytes are read; of more, every draw gives about the same."""
Watch = Callable[[str], None]


def silent(_: str) -> None:
    """Tell nobody what is being looked at."""


def regions(task: Task, watch: Watch = silent) -> list[str]:
    """List the regions that the data names.

    Raises:
        SourceError: the data cannot be read.
    """
    watch(f"{task.task}: looking for the regions of the data")
    return discover(task.source)


def asked(task: Task, found: list[str]) -> list[str]:
    """List the regions that the task trains, of those found in its data."""
    return found if task.regions == "discover" else list(task.regions)


def region_remarks(task: Task, found: list[str]) -> Iterator[Remark]:
    """Compare the regions that a task names with those of its data."""
    if task.regions == "discover":
        if len(found) > MAX_REGIONS:
            some = ", ".join(found[:5])
            words = f"the data has {len(found):,} regions ({some}, ...), each with a model of its own"
            yield Remark(("source", "region"), f"{words}; is this the column that is meant?", "warning")
        if not found:
            yield Remark(("source",), "the data names no region; see the keys of `source` that begin with region")
        return
    for place, region in enumerate(task.regions):
        if region not in found:
            known = f"its regions are {', '.join(found[:20])}" if found else "it names none"
            yield Remark(("regions", place), f"{region!r} is not in the data{nearest(region, found)}; {known}")
    if others := [region for region in found if region not in task.regions]:
        some = f"{', '.join(others[:10])}{', ...' if len(others) > 10 else ''}"
        words = f"the data also has {some}, which no model is trained for; name them, or write discover"
        yield Remark(("regions",), words, "warning")


def findings(task: Task, region: str, watch: Watch = silent) -> Iterator[Finding]:
    """Look at one region's examples."""
    what = f"{task.task}/{region}"
    with tempfile.TemporaryDirectory() as folder:
        seen = _Seen(task)
        try:
            watched = _watched(read(task.source, region, task.answer), what, watch)
            filtered = _filtered(task, seen.over(watched), UPath(folder))
        except SourceError as error:
            yield Finding(what, "bad", refused(task, error).words)
            return
        if (doubts := notice(task.source, region, task.answer).doubts) and data_checks.CLEAR_NAMES.asked(task):
            yield Finding(what, "warning", "; ".join(doubts))
        if seen.given_away.told:
            yield Finding(what, "warning", seen.given_away.told)
        watch(f"{what}: opening images")
        pictures = list(_images(what, seen, UPath(folder)))
        yield from pictures
        if not any(finding.state == "bad" for finding in pictures):
            yield from _verdicts(what, task, region, filtered, seen)


@dataclass
class _Seen:
    """What is remembered of the examples that stream by."""

    task: Task
    n: int = 0
    groups: list[str] = field(default_factory=list)
    """Group of each example without a problem."""
    answers: list[str] = field(default_factory=list)
    """Its answer; "" where that is no word of the task's."""
    pictured: list[Example] = field(default_factory=list)
    """Some of those that have an image, drawn evenly from all."""
    n_pictured: int = 0
    n_images: int = 0
    """Of all of them."""
    size: tuple[int, int] | None = None
    """Median width and height of those that were opened."""

    def __post_init__(self) -> None:
        self.given_away = GivenAway(self.task.answer)

    def over(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yield the examples, each with its image's path for the image."""
        words = data_views.answers(self.task.answer)
        randoms = random.Random(0)
        for example in examples:
            self.n += 1
            name = self._image_name(example)
            if example.problem is None:
                self.given_away.add(example)
                self.groups.append(_group_of(example, name) or example.id)
                self.answers.append(example.answer or "" if words else "")
            if example.image is not None and example.problem is None:
                self.n_pictured += 1
                self.n_images += len(example.pictures) or 1
                if len(self.pictured) < N_IMAGES:
                    self.pictured.append(example)
                elif (place := randoms.randrange(self.n_pictured)) < N_IMAGES:
                    self.pictured[place] = example
            yield _unpictured(example, name)

    def _image_name(self, example: Example) -> str | None:
        """Name the image of an example by its bytes, as the stages do; several, or one that is not read, by path."""
        if example.image is None:
            return None
        if not example.pictures and example.problem is None and self.n_images < N_HASHED:
            with suppress(ImageError):
                return hashlib.sha256(_bytes(example.image)).hexdigest()
        seen = hashlib.sha256()
        for image in [shown.image for shown in example.pictures] or [example.image]:
            seen.update(image if isinstance(image, bytes) else image.encode("utf-8", "surrogatepass"))
        return seen.hexdigest()


def _bytes(image: str | bytes) -> bytes:
    """Read an image that lies here.

    Raises:
        ImageError: it does not, or cannot be read.
    """
    if isinstance(image, str) and is_elsewhere(image):
        raise ImageError("image_unreachable", "it is not fetched for this")
    return image if isinstance(image, bytes) else images.read(image)


def _group_of(example: Example, name: str | None) -> str | None:
    """Return the group that the stages will see, but for look-alikes."""
    return example.group or (example.id if example.pictures else None) or name


def _unpictured(example: Example, name: str | None) -> Example:
    """Return the example with a name for its image in the question, and no image.

    The name is in letters, in which no rule about numbers or addresses sees anything.
    """
    if name is None:
        return example
    letters = name[:16].translate(str.maketrans("0123456789", "ghijklmnop"))
    unpictured = replace(example, image=None, pictures=(), question=f"{example.question}\n{letters}")
    return replace(unpictured, group=_group_of(example, name))


def _watched(examples: Iterable[Example], what: str, watch: Watch) -> Iterator[Example]:
    for number, example in enumerate(examples, 1):
        if number % 1000 == 1:
            watch(f"{what}: {number - 1:,} rows read")
        yield example


def _filtered(task: Task, examples: Iterable[Example], folder: UPath) -> Filtered:
    sampled = sample(
        examples,
        task.sampling,
        folder / "sampled.parquet",
        labels=data_views.answers(task.answer),
        near=False,
    )
    nobody = Reviewed.of(sampled.table, pd.DataFrame(columns=list(DECISIONS)).astype(DECISIONS), task.answer)
    filtering = task.filtering.model_copy(update={"label_errors": "off"})
    return filter_examples(nobody, task.answer, filtering, folder / "clean.parquet", folder / "aside.parquet")


def _images(what: str, seen: _Seen, folder: UPath) -> Iterator[Finding]:
    """Open some of the images."""
    if not seen.pictured:
        return
    addresses = ImageAddresses(ImageStore(folder / "images"))
    with tempfile.TemporaryFile() as thumbnails, Looker(thumbnails, addresses, window_of(seen.task.source)) as looker:
        looks = looker.looks(
            [image for one in seen.pictured for image in [shown.image for shown in one.pictures] or [one.image]]
        )
    broken = [look.error for look in looks if look.error]
    if facts := [look.facts for look in looks if look.facts]:
        seen.size = (median_low(fact.width for fact in facts), median_low(fact.height for fact in facts))
    n = len(looks)
    if not broken:
        yield Finding(what, "good", f"{n} of {seen.n_images:,} images were opened, and are whole")
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(one.reason for one in broken).most_common())
    first = broken[0]
    words = f"of {n} images that were opened {len(broken)} cannot be used ({reasons}); the first: {first.detail}"
    if len(broken) < n:
        yield Finding(what, "warning", f"{words}; such examples are set aside")
    elif first.reason == Reason.IMAGE_MISSING:
        yield Finding(what, "bad", f"{words}; an image's path is relative to the folder of the file that names it")
    elif first.reason == Reason.IMAGE_UNREADABLE and "; " not in (first.detail or ""):
        yield Finding(what, "bad", f"{words}; are these the images, and were they copied whole?")
    else:
        yield Finding(what, "bad", words)


def _verdicts(what: str, task: Task, region: str, filtered: Filtered, seen: _Seen) -> Iterator[Finding]:
    """Say what the checks of the stages will say."""
    few = len(filtered.clean) < MIN_LEFT * filtered.n_sampled or not len(filtered.clean)
    counts = data_views.counts(filtered.clean, task.answer)
    if few or (filtered.by_reason and not int(counts.loc["train"].sum())):
        yield Finding(what, "bad", _hardly_any(filtered, seen))
        return
    if len(only := set(seen.groups)) == 1 and len(seen.groups) > 1:
        one = f"all its {len(seen.groups):,} rows are of one group, {next(iter(only))!r}, and no split divides a group"
        yield Finding(what, "bad", f"{one}; name another column as `group`, or none where rows stand alone")
        return
    groups, smallest = splits.groups_by_split(filtered.clean), task.benchmark.smallest_gain
    n_test = int(counts.loc["test"].sum())
    verdicts = {
        data_checks.ENOUGH_EXAMPLES: data_checks.enough_examples(region, counts, groups, filtered.by_reason),
        data_checks.GAIN_CAN_BE_SHOWN: data_checks.gain_can_be_shown(region, n_test, groups["test"], smallest),
        data_checks.BOTH_ANSWERS: data_checks.both_answers(region, counts, task.answer),
        data_checks.LITTLE_QUARANTINE: data_checks.little_quarantine(
            region, len(filtered.quarantine), filtered.n_sampled
        ),
    }
    for check, verdict in verdicts.items():
        if not verdict.passed and check.asked(task):
            state: State = "bad" if check.severity(task) == "error" else "warning"
            first = f" {_most_common(filtered, task.source)}." if check is data_checks.LITTLE_QUARANTINE else ""
            yield Finding(what, state, f"{verdict.description}{first}")
    passed = verdicts[data_checks.ENOUGH_EXAMPLES].passed and verdicts[data_checks.BOTH_ANSWERS].passed
    if passed:
        sizes = ", ".join(f"{int(n)} {split}" for split, n in counts.sum(axis="columns").items())
        aside = f"; {len(filtered.quarantine):,} are set aside" if len(filtered.quarantine) else ""
        yield Finding(what, "good", f"{seen.n:,} rows give {sizes}{aside}")
        n_train = int(counts.loc["train"].sum())
        yield from costs.findings(what, task, region, filtered.clean, n_train, seen.size)
    if len(filtered.clean) > 1:
        yield from seeds.findings(what, task, seen.groups, seen.answers, bool(passed))


def _hardly_any(filtered: Filtered, seen: _Seen) -> str:
    if not filtered.n_sampled:
        return f"of {seen.n:,} rows none is in any split; sample larger shares, or label more groups"
    left = f"{len(filtered.clean):,}" if len(filtered.clean) else "none"
    none_to_train = ", and none to train on" if len(filtered.clean) >= MIN_LEFT * filtered.n_sampled else ""
    why = _most_common(filtered, seen.task.source)
    return f"of {filtered.n_sampled:,} examples {left} can be used{none_to_train}. {why}"


def _most_common(filtered: Filtered, source: object) -> str:
    """Say what most examples are set aside for, with the first of them and what to do."""
    reason, n = filtered.by_reason.most_common(1)[0]
    for chunk in filtered.quarantine.chunks(["reason", "detail", "source", "line"]):
        for row in records(chunk.loc[chunk["reason"] == reason].head(1)):
            line = f"line {row['line']}"
            place = row["source"] if row["line"] is None or line in row["detail"] else f"{row['source']}, {line}"
            advice = f"; {_REMEDIES[reason]}" if reason in _REMEDIES else ""
            if reason == Reason.DOUBTFUL_LABEL and getattr(source, "doubtful_between", None):
                advice += ", or narrow `source.doubtful_between`"
            return f"{n:,} are set aside as {reason}, the first in {place}: {row['detail']}{advice}"
    return f"{n:,} are set aside as {reason}"


_REMEDIES = {
    str(Reason.DOUBTFUL_LABEL): "let reviewers decide (`finetune-assets feedback`), or write "
    "`filtering: {doubtful: keep}`",
    str(Reason.UNPARSEABLE_ANSWER): "look at `answer`, and at what `source` takes for the "
    "answer; what cells mean is said by `values`, such as {0: intact, 1: crack}",
    str(Reason.EMPTY_ANSWER): "look at what `source` takes for the answer",
    str(Reason.MISSING_FIELD): "look at the columns or keys that `source` names",
    str(Reason.SCORE_OUT_OF_RANGE): "look at the bounds of `answer`, and at the scores' scale",
    str(Reason.CONTRADICTORY_ANSWERS): "the question must tell such examples apart; where several people answered, "
    'say who by `annotator: "{column}"` under source',
    str(Reason.DUPLICATE): "an example counts once",
    str(Reason.MALFORMED_LINE): "mend the file, or name its format in `source`",
    str(Reason.OTHER_LANGUAGE): "look at `filtering.language`",
}
"""What to do where most of the examples are set aside for one reason."""
