"""A region's champion, asked about what nobody has labelled."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from finetune_assets.dataset.images import inspect
from finetune_assets.errors import EvaluationError, TaskError
from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.answering import Rule
from finetune_assets.evaluation.calibration import PlattCalibrator
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator
from finetune_assets.evaluation.drift import Reference, features_of
from finetune_assets.evaluation.promotion import Champion
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import record
from finetune_assets.feedback.store.judging import NewEvent
from finetune_assets.feedback.store.queues import take
from finetune_assets.feedback.store.usage import counted
from finetune_assets.predictor import Predicted, Predictor, Question, read_questions
from finetune_assets.provider.completions import Reply, Token
from finetune_assets.results.region import Outputs, Region
from finetune_assets.results.standing import standing
from finetune_assets.task import Prompt, Task
from finetune_assets.task.answers import BinaryAnswer, NumberAnswer
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.provider.answering_provider import (
    AnsweringProvider,
    Response,
    answering_provider,
    completion,
)
from finetune_assets_tests.server_process import ServerProcess

PRICES = {"kind": "diamonds"}

pytestmark = pytest.mark.xdist_group("finished_region")


@pytest.fixture
def predictor(finished: Finished, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    """The champion that tells bright pictures from dark ones."""
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    task = finished.project.task
    champion = standing(Region(task, "mono", Outputs(root=str(finished.project.root)))).champion
    assert champion is not None, standing(Region(task, "mono", Outputs(root=str(finished.project.root)))).objections
    yield Predictor(task, champion, calibration.load(champion.calibrator))


def pictures(folder: Path) -> list[Question]:
    for name, shade in {"dark": 25, "bright": 215}.items():
        put(folder / f"{name}.png", picture(size=(16, 40), shade=shade))
    return [Question(image=folder / "dark.png"), Question(image=folder / "bright.png")]


def test_the_answer_comes_with_a_calibrated_probability_and_the_model(predictor: Predictor, tmp_path: Path) -> None:
    dark, bright = predictor.predict(pictures(tmp_path))
    assert (dark.answer, bright.answer) == ("No", "Yes")
    assert dark.p_raw is not None and dark.p_calibrated is not None and bright.p_calibrated is not None
    assert dark.p_calibrated < 0.5 < bright.p_calibrated
    [expected] = predictor.calibrator.apply([dark.p_raw])  # pyright: ignore[reportAttributeAccessIssue]
    assert dark.p_calibrated == pytest.approx(expected)
    assert dark.model == predictor.champion.model
    assert "of Yes" in str(dark)


def test_what_cannot_be_asked_is_an_error_in_its_place(predictor: Predictor, tmp_path: Path) -> None:
    dark, bright = pictures(tmp_path)
    asked = [Question(image=tmp_path / "none.png"), dark, Question(problem="x.jsonl line 3: no JSON"), bright]
    found = list(predictor.predict([*asked, Question(image=tmp_path / "none.png")]))
    assert [one.answer for one in found] == [None, "No", None, "Yes", None]
    assert "image_missing" in str(found[0].error) and found[2].error == "x.jsonl line 3: no JSON"
    assert str(found[0]).startswith("no answer: image_missing")


def test_a_task_about_images_needs_one_and_a_task_about_texts_takes_none(predictor: Predictor, tmp_path: Path) -> None:
    dark, bright = pictures(tmp_path)
    blind, seeing = predictor.predict([Question("Is this cell defective?"), bright])
    assert "asks about images: an image is needed" in str(blind.error) and seeing.answer == "Yes"
    with pytest.raises(TaskError, match="an image is needed, by --image"):
        predictor.require(Question("Is this cell defective?"))
    texts = replace(predictor, task=make_task(source=PRICES, answer={"kind": "number", "template": "${}"}))
    with pytest.raises(TaskError, match=r"asks about texts alone, and .*dark\.png is an image"):
        texts.require(dark)
    texts.require(Question("How much is it?"))


@pytest.mark.parametrize("pictured", [True, False, None])
def test_lines_of_a_chat_say_themselves_whether_they_have_images(predictor: Predictor, pictured: bool | None) -> None:
    chat = {"kind": "chat_jsonl", "path": "chat.jsonl", "region": "mono"}
    asked = replace(predictor, task=make_task(source=chat), pictured=pictured)
    for question, refused in ((Question("Is it?"), pictured is True), (Question(image="a.png"), pictured is False)):
        if refused:
            with pytest.raises(TaskError, match="asks about"):
                asked.require(question)
        else:
            asked.require(question)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_word_and_probability_never_contradict_each_other(predictor: Predictor, threshold: float) -> None:
    asked = replace(predictor, champion=replace(predictor.champion, rule=asdict(Rule(threshold))))
    for p in (0.01, 0.2, 0.49, 0.51, 0.8, 0.99):
        candidates = {"Yes": math.log(p), "No": math.log(1 - p)}
        said = max(candidates, key=lambda word: candidates[word])
        found = asked.read(Reply(said, (Token(said, candidates[said], candidates),)))
        assert found.p_calibrated is not None
        assert found.answer == ("Yes" if found.p_calibrated >= threshold else "No")
        assert found.text == said and not found.ask_a_person


def test_an_answer_that_is_not_sure_enough_is_for_a_person(predictor: Predictor) -> None:
    candidates = {"Yes": math.log(0.9), "No": math.log(0.1)}
    reply = Reply("Yes", (Token("Yes", candidates["Yes"], candidates),))
    for least, person in ((0.0, False), (2.0, True)):
        asked = replace(predictor, champion=replace(predictor.champion, rule=asdict(Rule(least=least))))
        found = asked.read(reply)
        assert found.ask_a_person is person and str(found).startswith("ask a person") is person
    unreadable = asked.read(Reply("hm"))
    assert unreadable.ask_a_person and unreadable.answer is None


def kept_in(predictor: Predictor, folder: Path, least: float, **in_use: object) -> Predictor:
    """The same predictor of a task that keeps what it is asked, its champion as sure as that."""
    said = predictor.task.model_dump() | {"benchmark": {"defer": {"target_accuracy": 0.9}}, "in_use": in_use}
    task = Task.model_validate(said)
    seen = [features_of("Is this cell defective?", inspect(picture(size=(16, 40), shade=shade))) for shade in (25, 215)]
    reference = Reference.of(seen * 20, [str(n) for n in range(40)]).to_dict()
    champion = replace(predictor.champion, rule=asdict(Rule(least=least)), reference=reference)
    return replace(predictor, task=task, champion=champion, region=Region(task, "mono", Outputs(root=str(folder))))


def test_what_is_left_to_a_person_waits_for_reviewers_and_is_then_answered_as_they_decide(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{tmp_path / 'feedback.sqlite'}")
    asked, questions = kept_in(predictor, tmp_path, 2.0, review=True), pictures(tmp_path)
    dark, bright = asked.predict(questions)
    assert dark.ask_a_person and dark.review and bright.review and dark.review != bright.review
    with FeedbackDatabase() as db:
        task = asked.task.task
        [first, _] = take(db, task, "mono", "in_use", "ann")
        assert first.item.example_id == dark.review and first.item.image and first.model_answer is None
        assert Path(first.item.image).read_bytes() == (tmp_path / "dark.png").read_bytes()
        said = NewEvent(
            key=str(uuid.uuid4()), task=task, region="mono", example_id=dark.review, reviewer="ann", kind="correct",
            answer="Yes", shown={"queue": "in_use"},
        )  # fmt: skip
        record(db, said)
    again, still = asked.predict(questions)
    assert (again.answer, again.decided_by, again.ask_a_person) == ("Yes", ("ann",), False)
    assert str(again) == "Yes  [decided by ann]" and still.review == bright.review
    given = kept_in(predictor, tmp_path, 0.0, review=True, check=1.0)
    assert [one.review for one in given.predict(questions[1:])] == [None], "what is checked is an answer all the same"


def test_what_is_watched_is_counted_and_not_kept(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{tmp_path / 'feedback.sqlite'}")
    asked = kept_in(predictor, tmp_path, 0.0, watch=True)
    list(asked.predict([*pictures(tmp_path), Question(image=tmp_path / "none.png")]))
    with FeedbackDatabase() as db:
        found = counted(db, asked.task.task, "mono", asked.champion.model, 1)
    assert found["image_brightness"] == {0: 1, 1: 1} and found["image_pixels"] == {0: 2}
    unknown = replace(asked, champion=replace(asked.champion, reference=None))
    with pytest.raises(EvaluationError, match="materialise calibrator and champion again"):
        list(unknown.predict(pictures(tmp_path)))


def test_a_number_comes_with_its_interval(predictor: Predictor) -> None:
    answer = NumberAnswer(kind="number", template="${}", minimum=0)
    fitted = ConformalCalibrator.fit([10.0] * 40, [9.0] * 40, answer=answer, model=predictor.champion.model)
    priced = replace(predictor, task=make_task(answer=answer.model_dump(), source=PRICES), calibrator=fitted)
    found = priced.read(Reply("It costs $0.50", finish_reason="stop"))
    assert found.interval == (0, pytest.approx(1.5)) and found.level == 0.9
    assert str(found) == "$0.50  [0 to 1.5, 90 % interval]"


def test_a_number_that_too_few_examples_calibrated_has_no_interval_and_is_json(predictor: Predictor) -> None:
    answer = NumberAnswer(kind="number", template="${}")
    fitted = ConformalCalibrator.fit([10.0] * 3, [9.0] * 3, answer=answer, model=predictor.champion.model)
    priced = replace(predictor, task=make_task(answer=answer.model_dump(), source=PRICES), calibrator=fitted)
    found = priced.read(Reply("$0.50", finish_reason="stop"))
    assert str(found) == "$0.50  [no interval]"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["interval"] is None


def test_a_region_without_a_champion_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", str(tmp_path))
    with pytest.raises(EvaluationError, match="no model answers for solar_cells/mono: none was evaluated yet"):
        Predictor.load("solar_cells", "mono")
    with pytest.raises(TaskError, match="solar_cells has the regions mono, poly, not 'nowhere'"):
        Predictor.load("solar_cells", "nowhere")


def test_a_task_that_was_changed_is_warned_of(predictor: Predictor) -> None:
    assert predictor.warning == predictor.calibrator.warning
    described = predictor.task.model_copy(update={"description": "another one"})
    assert replace(predictor, now=described).warning == predictor.calibrator.warning
    asks = predictor.task.model_copy(update={"prompt": Prompt(user="Now then: {question}")})
    assert "has another prompt by now" in str(replace(predictor, now=asks).warning)
    before = replace(predictor.champion, prompt=None, answer=None)
    assert "was changed after" in str(replace(predictor, champion=before, now=asks).warning)


def test_a_champion_is_asked_as_it_was_trained_whatever_its_task_says_by_now(predictor: Predictor) -> None:
    other = predictor.task.model_copy(
        update={
            "prompt": Prompt(user="{question} Ja oder Nein?"),
            "answer": BinaryAnswer(kind="binary", positive="Ja", negative="Nein"),
        }
    )
    own = predictor.champion.as_trained(other)
    assert (own.prompt, own.answer) == (predictor.task.prompt, predictor.task.answer)


def test_questions_are_read_from_a_file_and_its_bad_lines_named(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    lines = [{"image": "a.png"}, {"text": "why?", "image": "https://host/b.png"}, {"text": 3}, {}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n")
    first, second, *bad = read_questions(path)
    assert first == Question(image=str(tmp_path / "a.png"))
    assert second == Question("why?", "https://host/b.png")
    assert [f"line {number}: " in str(one.problem) for number, one in enumerate(bad, start=3)] == [True] * 3


def test_a_prediction_is_json() -> None:
    assert json.loads(json.dumps(Predicted("m", "Yes").to_dict()))["answer"] == "Yes"


def test_a_function_is_called_and_comes_with_the_probability_that_it_is_the_right_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "sk-any")
    schema = {"type": "object", "properties": {"said": {"enum": ["Yes", "No"]}}, "required": ["said"]}
    answer = {"kind": "call", "tools": [{"name": "judge", "description": "Judge.", "parameters": schema}]}

    def call(_asked: dict[str, Any]) -> Response:
        status, body, headers = completion("")
        function = {"name": "judge", "arguments": '{ "said": "Yes" }'}
        made = {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
        body["choices"][0] |= {"finish_reason": "tool_calls", "logprobs": None}
        body["choices"][0]["message"] |= made
        return status, body, headers

    with answering_provider(AnsweringProvider(call)) as provider:
        source = {"kind": "table", "path": "rows.jsonl", "region": "mono"}
        task = make_task(source=source, answer=answer, prompt={"user": "{question}"}, provider=provider.base_url)
        champion = Champion(
            "m",
            provider.base_url,
            "base",
            "job",
            {},
            "",
            metric="exact_call",
            value=0.9,
            n_test=9,
            since="",
            way="checks",
        )
        calibrator = PlattCalibrator.fit([1.0, 1.0, 1.0, 1.0], [1, 1, 0, 1], model="m", kind="call")
        [found] = Predictor(task, champion, calibrator).predict([Question("Is it fine?")])
    [asked] = provider.asked
    assert (asked["tool_choice"], asked["tools"][0]["function"]["name"]) == ("required", "judge")
    assert json.loads(found.answer or "") == {"name": "judge", "arguments": {"said": "Yes"}}
    assert found.p_calibrated == pytest.approx(0.68, abs=0.01)  # 3 of 4, with Platt's two examples more
