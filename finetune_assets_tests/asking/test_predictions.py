"""Asking a model the questions of a split."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from finetune_assets.asking.predictions import DTYPES, Asked, ask_models, predict, room
from finetune_assets.errors import ImageError, ProviderError
from finetune_assets.evaluation.prediction import Role
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.task import Task
from finetune_assets.task.answers import Answer, BinaryAnswer
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.provider.answering_provider import AnsweringProvider, Response, answering_provider
from finetune_assets_tests.server_process import ServerProcess


def examples(folder: Path, n: int = 3) -> pd.DataFrame:
    """Rows of `filtered_qa` with a picture each."""
    rows = []
    for number in range(n):
        image = put(folder / f"{number}.png", picture(shade=50 + number))
        row = {"example_id": f"e{number}", "split": "test", "group": f"g{number}", "question": f"Is {number} bright?"}
        rows.append(row | {"answer": "Yes", "image": str(image)})
    return pd.DataFrame(rows)


class Provider:
    """Answers the questions of `examples` with its replies in their order, and keeps what it was asked."""

    def __init__(self, *replies: Response) -> None:
        self.replies = replies
        self.serving = AnsweringProvider(answer=self._answer)

    @property
    def asked(self) -> list[dict[str, Any]]:
        return self.serving.asked

    def predicts(self, task: Task, frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
        with answering_provider(self.serving), AnswerCache(folder / "answers.sqlite") as cache:
            return predict(self.serving.client(), Asked("m", task), frame, "base", cache)

    def _answer(self, asked: dict[str, Any]) -> Response:
        [number] = re.findall(r"Is (\d) bright", json.dumps(asked))
        return self.replies[int(number)]


def says(text: str, **logprobs: float) -> Response:
    """A completion with log-probabilities for its first token."""
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in logprobs.items()]
    content = [{"token": text, "logprob": 0.0, "bytes": None, "top_logprobs": top}]
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": message,
        "logprobs": {"content": content, "refusal": None},
    }
    return 200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}, {}


def refuses(message: str) -> Response:
    return 400, {"error": {"message": message, "type": "x", "param": None, "code": None}}, {}


def test_a_prediction_has_the_answer_and_the_probability_of_the_positive_one(tmp_path: Path) -> None:
    # e^-0.5 / (e^-0.5 + e^-1.5) = 1 / (1 + e^-1) = 0.7311
    provider = Provider(says("Yes.", Yes=-0.5, No=-1.5))
    [row] = provider.predicts(make_task(), examples(tmp_path, 1), tmp_path).to_dict("records")
    assert (row["example_id"], row["truth"], row["predicted"], row["role"]) == ("e0", "Yes", "Yes", "base")
    assert row["p_positive"] == pytest.approx(0.7311, abs=1e-4)


def test_the_question_is_asked_as_it_is_trained_with_the_image_inline(tmp_path: Path) -> None:
    provider = Provider(says("No"))
    provider.predicts(make_task(), examples(tmp_path, 1), tmp_path)
    [asked] = provider.asked
    parts = {part["type"]: part[part["type"]] for part in asked["messages"][0]["content"]}
    assert parts["text"] == "Is 0 bright? Answer Yes or No."
    assert base64.b64decode(parts["image_url"]["url"].split(",")[1]) == (tmp_path / "0.png").read_bytes()
    assert (asked["temperature"], asked["logprobs"], asked["top_logprobs"]) == (0, True, 20)


def test_what_is_no_answer_is_missing_and_not_wrong_in_silence(tmp_path: Path) -> None:
    provider = Provider(says("Perhaps"), refuses("cannot see it"), says("No"))
    table = provider.predicts(make_task(), examples(tmp_path), tmp_path)
    assert table["predicted"].isna().tolist() == [True, True, False]
    assert table["error"].isna().tolist() == [True, False, True]
    assert {name: str(kind) for name, kind in table.dtypes.items()} == DTYPES


def test_a_model_that_refuses_everything_is_an_error(tmp_path: Path) -> None:
    provider = Provider(*[refuses("no log-probabilities here")] * 3)
    with pytest.raises(ProviderError, match="m refused all 3 questions, the first one with: no log-probabilities"):
        provider.predicts(make_task(), examples(tmp_path), tmp_path)


def test_an_image_that_has_gone_is_named(tmp_path: Path) -> None:
    frame = examples(tmp_path, 1)
    (tmp_path / "0.png").unlink()
    with pytest.raises(ImageError, match=r"0\.png"):
        Provider().predicts(make_task(), frame, tmp_path)


ROWS = {"kind": "table", "path": "rows.jsonl", "region": "mono"}
CHOICE = make_task(source=ROWS, answer={"kind": "choice", "options": ["Yes", "No", "Unsure"]})
PRICE = make_task(source=ROWS, answer={"kind": "number", "template": "Price is ${}"})
TEXT = make_task(source=ROWS, answer={"kind": "text", "max_tokens": 77})


def test_a_choice_has_the_probability_of_what_was_given_and_of_what_is_true(tmp_path: Path) -> None:
    provider = Provider(says("No.", Yes=math.log(0.2), No=math.log(0.6), Un=math.log(0.1)))
    [row] = provider.predicts(CHOICE, examples(tmp_path, 1), tmp_path).to_dict("records")
    assert (row["predicted"], row["p_predicted"], row["p_truth"]) == ("No", pytest.approx(6 / 9), pytest.approx(2 / 9))
    assert math.isnan(row["p_positive"])


def test_a_number_is_kept_as_a_number_and_in_the_tasks_words(tmp_path: Path) -> None:
    frame = examples(tmp_path, 2).assign(answer="Price is $1200.00", score=1200.0)
    provider = Provider(says("Price is $1,199.5"), says("no idea"))
    table = provider.predicts(PRICE, frame, tmp_path)
    assert table["predicted_value"].tolist() == [1199.5, pytest.approx(float("nan"), nan_ok=True)]
    assert table["predicted"].tolist()[0] == "Price is $1199.50"
    assert table["predicted"].isna().tolist() == [False, True]
    assert table["truth_value"].tolist() == [1200, 1200]
    assert "top_logprobs" not in provider.asked[0] or provider.asked[0]["top_logprobs"] == 0


def test_a_text_has_the_mean_probability_of_its_tokens_and_says_whether_it_was_cut_off(tmp_path: Path) -> None:
    status, body, _ = says("because")
    body["choices"][0]["finish_reason"] = "length"
    body["choices"][0]["logprobs"]["content"][0]["logprob"] = math.log(0.25)
    provider = Provider((status, body, {}))
    [row] = provider.predicts(TEXT, examples(tmp_path, 1), tmp_path).to_dict("records")
    assert (row["predicted"], row["p_predicted"], row["truncated"]) == ("because", pytest.approx(0.25), True)
    assert provider.asked[0]["max_tokens"] == 77


def test_the_system_message_of_an_example_takes_the_place_of_the_tasks(tmp_path: Path) -> None:
    task = make_task(prompt={"system": "The task's.", "user": "{question}"})
    frame = examples(tmp_path, 2).assign(system=["Its own.", float("nan")])
    provider = Provider(says("No"), says("No"))
    provider.predicts(task, frame, tmp_path)
    said = {asked["messages"][1]["content"][0]["text"]: asked["messages"][0]["content"] for asked in provider.asked}
    assert said == {"Is 0 bright?": "Its own.", "Is 1 bright?": "The task's."}


@pytest.mark.parametrize(
    ("answer", "truths", "tokens"),
    [
        # One token to most, but a vocabulary may hold its letters only, and put a space before the first of them.
        (make_task().answer, ["Yes"], 1 + 3),
        # A sign that is none of a vocabulary's is as many tokens as it has bytes.
        (BinaryAnswer(kind="binary", positive="異常", negative="正常"), ["正常"], 1 + 2 * 3),
        (CHOICE.answer, ["No"], 1 + len("Unsure")),
        # The longest number has 7 characters, with two to spare.
        (PRICE.answer, ["Price is $5.00", "Price is $1200.00"], 1 + len("Price is $") + 7 + 2),
        (TEXT.answer, ["because"], 77),
    ],
)
def test_a_model_of_any_vocabulary_gets_room_for_the_longest_answer_and_little_more(
    answer: Answer, truths: list[str], tokens: int
) -> None:
    assert room(answer, truths) == tokens


def test_a_task_may_have_its_models_asked_in_batches(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = make_task(source=ROWS, provider=server.base_url, benchmark={"batch": True})
    frame = examples(tmp_path, 4).assign(image=None, split=["test", "test", "calibration", "train"])
    models: dict[Role, str] = {"base": "tiny-text", "fine_tuned": "gpt-4o-mini", "champion": "tiny-text"}
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        table = ask_models(server.client(), {role: Asked(model, task) for role, model in models.items()}, frame, cache)
    assert table.groupby("role")["example_id"].apply(list).to_dict() == {
        "base": ["e0", "e1"],
        "fine_tuned": ["e0", "e1", "e2"],
        "champion": ["e0", "e1"],
    }
    # Only answers from a batch have no latency.
    assert (table["latency_s"].count(), table["error"].count()) == (0, 0)
    assert all(count > 0 for count in table["prompt_tokens"])
