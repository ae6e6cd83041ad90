"""What is kept of the questions that a champion is asked, where the task's `in_use` wants it.

Answers that the model leaves to a person wait in the reviewers' queue, with a few of those that it gave, and the same
question is answered as people decided. What is watched for drift is counted, and nothing else of it is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_assets.dataset import images
from finetune_assets.dataset.answer_reading import options_of
from finetune_assets.dataset.identity import content
from finetune_assets.dataset.image_addresses import read_named
from finetune_assets.dataset.images import ImageFacts
from finetune_assets.dataset.shown import Shown, labelled_sha256, written
from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.drift import UNREADABLE, Reference, features_of, features_of_answer
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.predictor.predicted import Predicted
from finetune_assets.results.region import Region
from finetune_assets.task import Task
from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, ScoreAnswer
from finetune_assets.task.sources import window_of

if TYPE_CHECKING:
    from finetune_assets.feedback.store.database import FeedbackDatabase
    from finetune_assets.feedback.store.judging import Decision

_AT_ONCE = 500
"""Questions after which the counts are stored."""
_CHANCES = 16**8


@dataclass(frozen=True, slots=True)
class AskedImage:
    """An image of a question."""

    path: str | Path
    label: str | None
    facts: ImageFacts


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was put to the model."""

    text: str
    images: tuple[AskedImage, ...] = ()
    """In the order in which they were shown."""
    at: int = 0
    """Place of the one in question."""

    @property
    def facts(self) -> ImageFacts | None:
        """What the image in question is."""
        return self.images[self.at].facts if self.images else None

    @property
    def content(self) -> str:
        """What is asked, as reviewers' decisions name it."""
        if len(self.images) > 1 or any(image.label for image in self.images):
            seen = labelled_sha256((image.label, image.facts.sha256) for image in self.images)
        else:
            seen = self.facts.sha256 if self.facts else None
        return content(self.text, None, seen)


@dataclass(slots=True)
class InUse:
    """Keeps of a region's questions what its task asks for."""

    region: Region
    champion: Champion
    db: FeedbackDatabase
    reference: Reference | None
    _counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    _n: int = 0

    @property
    def _task(self) -> Task:
        return self.region.task

    def decided(self, asked: Asked) -> Predicted | None:
        """Return what people answered to this very question before."""
        from finetune_assets.feedback.store.in_use import decision_on, item_id

        if not self._task.in_use.review:
            return None
        found = decision_on(self.db, self._task.task, self.region.name, asked.content)
        return None if found is None else _by_people(found, item_id(asked.content))

    def note(self, asked: Asked, found: Predicted) -> Predicted:
        """Keep what is wanted of a question and its answer, and return the answer."""
        if self.reference is not None and found.error is None:
            self._count(self.reference, asked, found)
        if not self._task.in_use.review or found.error is not None:
            return found
        chosen = int(asked.content[:8], 16) < self._task.in_use.check * _CHANCES
        return self._laid(asked, found) if found.ask_a_person or chosen else found

    def store(self) -> None:
        """Store the counts."""
        from finetune_assets.feedback.store.usage import count

        if self._counts:
            count(self.db, self._task.task, self.region.name, self.champion.model, self._counts)
        self._counts.clear()

    def _count(self, reference: Reference, asked: Asked, found: Predicted) -> None:
        word = None
        if isinstance(self._task.answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer):
            word = UNREADABLE if found.answer is None else found.answer
        seen = features_of(asked.text, asked.facts) | features_of_answer(word, found.p_raw, found.value)
        self._counts.update(reference.places(seen).items())
        self._n += 1
        if self._n % _AT_ONCE == 0:
            self.store()

    def _laid(self, asked: Asked, found: Predicted) -> Predicted:
        from finetune_assets.feedback.store.in_use import IN_USE, item_id, lay_before_people
        from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem

        answer, name = self._task.answer, item_id(asked.content)
        shown = [self._kept(image) for image in asked.images]
        one = shown[asked.at] if shown else None
        item = ReviewItem(
            task=self._task.task,
            region=self.region.name,
            example_id=name,
            content=asked.content,
            split=IN_USE,
            question=asked.text,
            image=one.image if one else None,
            original=one.original if one else None,
            pictures=written(shown) if len(shown) > 1 else None,
            kind=answer.kind,
            options=options_of(answer) if isinstance(answer, BinaryAnswer | ChoiceAnswer | ScoreAnswer) else (),
        )
        said = ModelAnswer(example_id=name, model=found.model, answer=found.answer, probability=_sure(found, answer))
        lay_before_people(self.db, item, said, given=not found.ask_a_person)
        return replace(found, review=name) if found.ask_a_person else found

    def _kept(self, image: AskedImage) -> Shown:
        """Keep an image, as reviewers see it, and the one of more than 8 bits that it was made from."""
        data, store, facts = read_named(image.path), self.region.images, image.facts
        shown = images.inspect(data, window_of(self._task.source)).in_eight_bits
        return Shown(
            image=store.keep(data if shown is None else shown),
            original=None if shown is None else store.keep(data),
            label=image.label,
            sha256=facts.sha256,
            bytes=len(data if shown is None else shown),
            modified_ns=None,
            width=facts.width,
            height=facts.height,
            format=facts.format,
            fit=facts.fit,
        )


@contextmanager
def in_use(region: Region | None, champion: Champion) -> Iterator[InUse | None]:
    """Open what keeps a region's questions; None where its task wants nothing kept, or nobody knows the region.

    Raises:
        EvaluationError: drift is to be watched, and the champion's held-out examples were not counted.
        FeedbackDatabaseError: the reviewers' database cannot be reached.
    """
    if region is None or not (region.task.in_use.review or region.task.in_use.watch):
        yield None
        return
    from finetune_assets.feedback.store.database import FeedbackDatabase

    if region.task.in_use.watch and champion.reference is None:
        raise EvaluationError(
            f"in_use.watch compares questions with the examples that {champion.model} was judged on, and these were "
            "not counted yet: materialise calibrator and champion again"
        )
    reference = Reference.from_dict(champion.reference) if region.task.in_use.watch and champion.reference else None
    with FeedbackDatabase() as db:
        kept = InUse(region, champion, db, reference)
        try:
            yield kept
        finally:
            kept.store()


def _by_people(found: Decision, name: str) -> Predicted:
    return Predicted(model="people", answer=found.answer, text=found.answer, decided_by=found.reviewers, review=name)


def _sure(found: Predicted, answer: object) -> float | None:
    """Return the probability that the answer is right."""
    p = found.p_calibrated
    return 1 - p if p is not None and isinstance(answer, BinaryAnswer) and found.answer == answer.negative else p
