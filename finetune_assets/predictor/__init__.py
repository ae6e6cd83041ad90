"""Ask a region's champion about images and texts that nobody has labelled, and get probabilities that mean something.

predictor = Predictor.load("solar_cells", "mono")
for found in predictor.predict([Question(image="cell.png")]):
    print(found.answer, found.p_calibrated)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Self

from finetune_assets.errors import EvaluationError, ImageError, TaskError
from finetune_assets.predictor.predicted import Predicted
from finetune_assets.predictor.questions import Question, read_questions

if TYPE_CHECKING:
    from finetune_assets.evaluation.answering import Rule
    from finetune_assets.evaluation.answers import Reading
    from finetune_assets.evaluation.calibration import Calibrator
    from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator
    from finetune_assets.evaluation.calibration.vectors import OrdinalCalibrator
    from finetune_assets.evaluation.promotion import Champion
    from finetune_assets.predictor.in_use import Asked, InUse
    from finetune_assets.provider.completions import Messages, Reply
    from finetune_assets.results.region import Region
    from finetune_assets.task import Task

__all__ = ["Predicted", "Predictor", "Question", "read_questions"]

LONGEST_NUMBER = "0" * 16
"""An answer in digits has room for so many; a model that is done sooner stops by itself."""


@dataclass(frozen=True)
class Predictor:
    """A region's champion and its calibrator, ready to be asked."""

    task: Task
    champion: Champion
    calibrator: Calibrator
    now: Task | None = None
    """The task as its YAML says it now, where that is not what the champion was trained with (`task`)."""
    pictured: bool | None = None
    """Whether the lines that it learned from had images, where only they tell; None where some had, or nobody knows."""
    region: Region | None = None
    """Whose champion it is; of one that is asked without, nothing is kept (`in_use`)."""

    @classmethod
    def load(cls, task: str, region: str) -> Self:
        """Find the champion of a region; nothing is sent yet.

        Raises:
            TaskError: there is no such task or region.
            EvaluationError: the region has no champion; the message says why.
        """
        from finetune_assets.dataset.sources import regions_of
        from finetune_assets.evaluation import calibration
        from finetune_assets.results.region import Outputs, Region, default_root
        from finetune_assets.results.standing import standing
        from finetune_assets.task import read_task

        described = read_task(task)
        where = Region(described, region, Outputs(root=default_root()))
        now = standing(where)
        if now.champion is None:
            if region not in (known := regions_of(described)):
                raise TaskError(f"{task} has the regions {', '.join(known)}, not {region!r}")
            why = f"{now.candidate} is not: {'; '.join(now.objections)}" if now.candidate else "none was evaluated yet"
            raise EvaluationError(f"no model answers for {task}/{region}: {why}")
        own, fitted = now.champion.as_trained(described), calibration.load(now.champion.calibrator)
        return cls(own, now.champion, fitted, described, _pictured(where), where)

    @property
    def rule(self) -> Rule:
        """What becomes of the champion's probabilities."""
        from finetune_assets.evaluation.answering import Rule

        return Rule.from_dict(self.champion.rule) if self.champion.rule else Rule()

    @property
    def warning(self) -> str | None:
        """What may make its answers worse than its benchmark says, or None."""
        from finetune_assets.results.region import task_fingerprint

        now, champion = self.now or self.task, self.champion
        if champion.prompt is None and task_fingerprint(now) != champion.task_fingerprint:
            return f"the task {now.task} was changed after {champion.model} was evaluated"
        if other := [name for name in ("prompt", "answer") if getattr(now, name) != getattr(self.task, name)]:
            return (
                f"the task {now.task} has another {' and '.join(other)} by now; {champion.model} is asked as it was "
                "trained, and answers in its own words"
            )
        return self.calibrator.warning

    def predict(self, questions: Iterable[Question]) -> Iterator[Predicted]:
        """Yield an answer for each question, in their order, as they come; an unreadable image is an answer's `error`.

        Raises:
            ProviderError: the provider does not answer, or no longer has the model.
            EvaluationError, FeedbackDatabaseError, TooManyWaitError: what the task's `in_use` wants cannot be kept.
        """
        from finetune_assets.asking.predictions import settings
        from finetune_assets.predictor.in_use import in_use
        from finetune_assets.provider.asking import ask_all
        from finetune_assets.provider.client import connect, find_provider
        from finetune_assets.task.answers import NumberAnswer

        provider, answer = self.champion.provider, self.task.answer
        truths = [answer.template.replace("{}", LONGEST_NUMBER)] if isinstance(answer, NumberAnswer) else []
        line: deque[Predicted | Asked] = deque()
        with in_use(self.region, self.champion) as kept:
            replies = ask_all(
                connect(provider),
                settings(self.task, truths, self.champion.model),
                self._requests(questions, line, kept),
                concurrency=find_provider(provider).concurrency,
            )
            for reply in replies:
                while isinstance(asked := line.popleft(), Predicted):
                    yield asked
                found = self.read(reply)
                yield found if kept is None else kept.note(asked, found)
            yield from (known for known in line if isinstance(known, Predicted))

    def _requests(
        self, questions: Iterable[Question], line: deque[Predicted | Asked], kept: InUse | None
    ) -> Iterator[Messages]:
        """Build the requests; `line` gets what each asks, and the answer where the model is not asked."""
        for question in questions:
            try:
                asked, messages = self._messages(question)
            except (ImageError, TaskError) as error:
                line.append(Predicted(self.champion.model, error=str(error)))
                continue
            known = kept.decided(asked) if kept else None
            line.append(known or asked)
            if known is None:
                yield messages

    def require(self, question: Question) -> None:
        """Refuse a question that is unlike all that the champion learned from.

        Raises:
            TaskError: it lacks the image that every example has, or has one where none has; or is no question.
        """
        if question.problem is not None:
            raise TaskError(question.problem)
        from finetune_assets.task.several_images import images_of
        from finetune_assets.task.sources import shows_images

        known, given = shows_images(self.task.source), question.given
        pictured = self.pictured if known is None else known
        if pictured and not given:
            raise TaskError(
                f"the task {self.task.task} asks about images: an image is needed, by --image, or as `image` of a line"
            )
        if pictured is False and given:
            raise TaskError(f"the task {self.task.task} asks about texts alone, and {given[0]} is an image")
        if known and len(given) != (wanted := max(len(images_of(self.task.source)), 1)):
            in_words = ", ".join(one.label or one.image for one in images_of(self.task.source)) or "its image"
            raise TaskError(
                f"the task {self.task.task} shows {wanted} images with a question ({in_words}), got {len(given)}: give "
                "them in this order, by --image for each, or as the list `images` of a line"
            )

    def _messages(self, question: Question) -> tuple[Asked, Messages]:
        from finetune_assets.dataset import images
        from finetune_assets.dataset.image_addresses import read_named
        from finetune_assets.predictor.in_use import Asked, AskedImage
        from finetune_assets.task.several_images import images_of, in_question
        from finetune_assets.task.sources import window_of
        from finetune_assets.training_file.chat_format import to_messages

        self.require(question)
        text = question.text if question.text is not None else getattr(self.task.source, "question", None)
        if text is None or (question.text is None and "{" in text):
            raise TaskError(f"the task {self.task.task} has no question of its own: give a text")
        urls, seen = [], []
        labels = [image.label for image in images_of(self.task.source)]
        for image, label in zip_longest(question.given, labels):
            if image is not None:
                data = read_named(image)
                facts = images.inspect(data, window_of(self.task.source))
                url = images.data_url(*images.for_training(facts.in_eight_bits or data, self.task.prompt.detail))
                urls.append((url, label))
                # Hundreds of questions may be on their way.
                seen.append(AskedImage(image, label, replace(facts, in_eight_bits=None)))
        at = in_question(images_of(self.task.source))
        return Asked(text, tuple(seen), at), to_messages(self.task.prompt, text, urls)

    def read(self, reply: Reply) -> Predicted:
        """Read what the champion replied, and calibrate it."""
        from finetune_assets.evaluation import answers, calibration
        from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator
        from finetune_assets.evaluation.calibration.parts import of_options
        from finetune_assets.evaluation.calibration.vectors import OrdinalCalibrator
        from finetune_assets.task.answers import BinaryAnswer, ChoiceAnswer, ScoreAnswer

        answer, model = self.task.answer, self.champion.model
        if reply.error is not None:
            return Predicted(model, error=reply.error)
        found = answers.read(reply.text, reply.tokens, answer, reply.finish_reason == "length", reply.probabilities)
        if isinstance(self.calibrator, ConformalCalibrator):
            return _with_interval(found, self.calibrator, reply.text)
        p_raw, of = found.p_predicted, "that this is right"
        if isinstance(answer, BinaryAnswer):
            p_raw, of = (found.probabilities or {}).get(answer.positive), f"of {answer.positive}"
        weighed = list(found.probabilities.values()) if found.probabilities else None
        p = calibration.of_answer(self.calibrator, p_raw, found.predicted, weighed, model=model)
        rule, binary = self.rule, isinstance(answer, BinaryAnswer)
        word = rule.word(found.predicted, p, answer)
        person = word is None or rule.asks_a_person(p, binary=binary)
        ask = rule.least is not None and person
        shares = found.probabilities if isinstance(answer, ChoiceAnswer | ScoreAnswer) and found.predicted else None
        options = of_options(self.calibrator, found.predicted or "", shares) if shares else None
        predicted = Predicted(model, word, None, p_raw, p, options, of, text=reply.text, ask_a_person=ask)
        if isinstance(self.calibrator, OrdinalCalibrator) and weighed is not None:
            return replace(predicted, levels=_levels(weighed, self.calibrator), level=self.calibrator.level)
        return predicted


def _pictured(region: Region) -> bool | None:
    """Look at whether all clean examples of a region have an image, or none has; None where it is some."""
    from finetune_assets.dataset.table import Table
    from finetune_assets.task.sources import shows_images

    if shows_images(region.task.source) is not None or not (path := region.path("filtered_qa", ".parquet")).exists():
        return None
    found = {bool(has) for chunk in Table(path).chunks(["image"]) for has in chunk["image"].notna().unique()}
    return found.pop() if len(found) == 1 else None


def _levels(weighed: list[float], calibrator: OrdinalCalibrator) -> tuple[str, ...]:
    """Return the levels that hold the true one as often as the calibrator says."""
    import numpy as np

    from finetune_assets.evaluation.calibration.ordinal_sets import sets

    [held] = sets(calibrator, np.array([weighed]))
    return tuple(word for word, inside in zip(calibrator.options, held, strict=True) if inside)


def _with_interval(found: Reading, calibrator: ConformalCalibrator, text: str | None) -> Predicted:
    """Put the interval around a number; there is none where too few examples calibrated it."""
    predicted = Predicted(calibrator.model, found.predicted, found.value, text=text)
    if found.value is None or calibrator.reach is None:
        return predicted
    low, high = (float(end[0]) for end in calibrator.intervals([found.value]))
    return replace(predicted, interval=(low, high), level=calibrator.level)
