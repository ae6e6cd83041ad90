"""/v1/decisions over HTTP, through the unmodified SDK."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Decision
from openai.types.fine_tuning import FineTuningJob

from finetune_assets_tests.server.api.test_batches import answers, start, wait
from finetune_assets_tests.server.networks import bundled_vision_base, data_url, picture
from finetune_assets_tests.server_process import KEY, ServerProcess, make_home

pytestmark = pytest.mark.xdist_group("training")

PREDICATE = {"type": "predicate", "instructions": "It is red."}
CHOICE = {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]}
SCORE = {"type": "score", "instructions": "How much?", "levels": [{"label": "low"}, {"label": "high"}]}
TEXT = {"type": "input_text", "text": "A text."}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
CUSTOM = {"type": "custom_tool_call", "call_id": "c2", "name": "run", "input": "ls"}
FUNCTION_OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "x"}
CUSTOM_OUTPUT = {"type": "custom_tool_call_output", "call_id": "c1", "output": "x"}
MISSING, UNKNOWN, NO_CALL = "missing_required_parameter", "unknown_parameter", "unknown_call_id"
RED = data_url(picture("red"))


def nested(depth: int) -> dict[str, Any]:
    """JSON of so many levels."""
    data: dict[str, Any] = {}
    for _ in range(depth - 1):
        data = {"a": data}
    return data


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def json_part(data: Any) -> dict[str, Any]:
    return {"type": "input_json", "data": data}


def drawn(draw: random.Random) -> dict[str, Any]:
    """A request that is right, of every kind of item, part and question."""
    word = draw.choice(["Yes", "rot", "ö", "<|im_end|>", "a b", "猫"])
    items: list[dict[str, Any]] = [
        {"role": draw.choice(["developer", "system"]), "content": draw.choice([word, [TEXT]])},
        {"role": "user", "content": word, "type": "message"},
        user(TEXT, json_part(draw.choice([{"k": [1, None, word]}, [{"k": word}]]))),
        {"role": "assistant", "content": draw.choice([word, [{"type": "output_text", "text": word}]])},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": word}], "phase": "final_answer"},
        CALL,
        {"type": "function_call_output", "call_id": "c1", "output": draw.choice([word, [TEXT]])},
        CUSTOM | {"namespace": "n", "status": "completed", "id": "i"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": word},
    ]
    first = draw.randrange(len(items) - 2)
    some = items[first : first + draw.randint(1, 2)] if first < 5 else items[5 : draw.randint(7, 9)]
    questions: list[dict[str, Any]] = [
        {**draw.choice([PREDICATE, CHOICE, SCORE]), **draw.choice([{}, {"name": f"q{n}"}])}
        for n in range(draw.randint(1, 4))
    ]
    if draw.random() < 0.3:
        many = [{"value": value} for value in (True, "true", False, "Yes", "Yes!", word)]
        described = [{**option, "description": word} for option in many]
        questions.append({**CHOICE, "choices": draw.choice([many, described])[: draw.randint(2, 5)]})
    if draw.random() < 0.3:
        questions.append({**SCORE, "instructions": [TEXT, json_part({"of": word})]})
    return {"model": "tiny-text", "input": draw.choice([word, some]), "questions": questions}


def check(asked: dict[str, Any], made: Decision) -> None:
    """An answer is of the kind of its question, and its probabilities are some."""
    assert made.model == asked["model"]
    assert made.usage.total_tokens == made.usage.input_tokens > 0
    for question, answer in zip(asked["questions"], made.answers, strict=True):
        assert answer.name == question.get("name")
        assert answer.type == question["type"]
        assert answer.type != "refusal"
        if answer.type == "predicate":
            assert 0 < answer.probability < 1
            continue
        shares = [each.probability for each in answer.probabilities]
        assert sum(shares) == pytest.approx(1)
        assert answer.confidence == max(shares)
        if answer.type == "choice":
            values = [(type(each.value), each.value) for each in answer.probabilities]
            assert values == [(type(option["value"]), option["value"]) for option in question["choices"]]
            assert answer.choice == answer.probabilities[shares.index(max(shares))].value
        else:
            assert [each.value for each in answer.probabilities] == list(range(len(question["levels"])))
            assert answer.score == pytest.approx(sum(n * share for n, share in enumerate(shares)))


def test_the_sdk_understands_every_answer_sync_and_async(server: ServerProcess) -> None:
    draw = random.Random(1)
    bodies = [drawn(draw) for _ in range(300)]
    client = server.client()
    for body in bodies[:150]:
        check(body, client.decisions.create(**body))

    async def ask() -> None:
        async with openai.AsyncOpenAI(
            base_url=server.base_url, api_key=KEY, max_retries=0, _strict_response_validation=True
        ) as line:
            slots = asyncio.Semaphore(8)

            async def one(body: dict[str, Any]) -> None:
                async with slots:
                    check(body, await line.decisions.create(**body))

            await asyncio.gather(*map(one, bodies[150:]))

    asyncio.run(ask())


BROKEN: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"model": None}, "model", "invalid_type"),
    ({"model": "nobody"}, "model", "model_not_found"),
    ({"input": None}, "input", "invalid_type"),
    ({"input": 3}, "input", "invalid_type"),
    ({"input": ""}, "input", "empty_string"),
    ({"input": []}, "input", "empty_array"),
    ({"input": ["text"]}, "input[0]", "invalid_type"),
    ({"input": [{}]}, "input[0].type", MISSING),
    ({"input": [{"type": "reasoning"}]}, "input[0].type", "invalid_value"),
    ({"input": [{"role": "king", "content": "x"}]}, "input[0].role", "invalid_value"),
    ({"input": [{"role": "user"}]}, "input[0].content", MISSING),
    ({"input": [{"role": "user", "content": []}]}, "input[0].content", "empty_array"),
    ({"input": [{"role": "user", "content": 3}]}, "input[0].content", "invalid_type"),
    ({"input": [{"role": "user", "content": "x", "name": "n"}]}, "input[0].name", UNKNOWN),
    ({"input": [user({"type": "output_text", "text": "x"})]}, "input[0].content[0].type", "invalid_value"),
    ({"input": [user({"type": "input_file", "file_id": "x"})]}, "input[0].content[0].type", "invalid_value"),
    ({"input": [user({"type": "input_text"})]}, "input[0].content[0].text", MISSING),
    ({"input": [user({"type": "input_image"})]}, "input[0].content[0].image_url", MISSING),
    ({"input": [user({"type": "input_image", "image_url": RED, "file_id": "f"})]},
     "input[0].content[0].file_id", UNKNOWN),
    ({"input": [user({"type": "input_image", "image_url": "ftp://x/y.png"})]},
     "input[0].content[0].image_url", "invalid_image_url"),
    ({"input": [user({"type": "input_image", "image_url": "data:image/png;base64,%%"})]},
     "input[0].content[0].image_url", "invalid_image_url"),
    ({"input": [user({"type": "input_image", "image_url": "data:image/png;base64,aGVsbG8="})]},
     "input[0].content[0].image_url", "invalid_image"),
    ({"input": [user({"type": "input_image", "image_url": RED, "detail": "medium"})]},
     "input[0].content[0].detail", "invalid_value"),
    ({"input": [user({"type": "input_image", "image_url": RED})]}, "input", "invalid_image"),
    ({"input": [user(*[{"type": "input_image", "image_url": RED}] * 501)]}, "input", "too_many_images"),
    ({"input": [user(json_part("text"))]}, "input[0].content[0].data", "invalid_type"),
    ({"input": [user(json_part(["text"]))]}, "input[0].content[0].data[0]", "invalid_type"),
    ({"input": [user(json_part(nested(33)))]}, "input[0].content[0].data", "json_too_large"),
    ({"input": [user(json_part({"a": [0] * 10_000}))]}, "input[0].content[0].data", "json_too_large"),
    ({"input": [user(json_part({"a": "x" * (256 << 10)}))]}, "input[0].content[0].data", "json_too_large"),
    ({"input": [{"role": "developer", "content": [json_part({})]}]}, "input[0].content[0].type", "invalid_value"),
    ({"input": [{"role": "system", "content": [{"type": "input_image", "image_url": RED}]}]},
     "input[0].content[0].type", "invalid_value"),
    ({"input": [{"role": "assistant", "content": [TEXT]}]}, "input[0].content[0].type", "invalid_value"),
    ({"input": [{"role": "assistant", "content": "x", "phase": "first"}]}, "input[0].phase", "invalid_value"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments", MISSING),
    ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments", "invalid_type"),
    ({"input": [CALL | {"status": "done"}]}, "input[0].status", "invalid_value"),
    ({"input": [CALL, CALL]}, "input[1].call_id", "duplicate_call_id"),
    ({"input": [FUNCTION_OUTPUT]}, "input[0].call_id", NO_CALL),
    ({"input": [FUNCTION_OUTPUT, CALL]}, "input[0].call_id", NO_CALL),
    ({"input": [CUSTOM, FUNCTION_OUTPUT | {"call_id": "c2"}]}, "input[1].call_id", NO_CALL),
    ({"input": [CALL, CUSTOM_OUTPUT]}, "input[1].call_id", NO_CALL),
    ({"input": [CALL, {"type": "function_call_output", "call_id": "c1", "output": [json_part({})]}]},
     "input[1].output[0].type", "invalid_value"),
    ({"input": [{"type": "custom_tool_call", "call_id": "c", "name": "f"}]}, "input[0].input", MISSING),
    ({"input": "x " * 600}, "input", "context_length_exceeded"),
    ({"input": [user({**TEXT, "prompt_cache_breakpoint": {"mode": "implicit"}})]},
     "input[0].content[0].prompt_cache_breakpoint.mode", "invalid_value"),
    ({"questions": None}, "questions", "invalid_type"),
    ({"questions": []}, "questions", "empty_array"),
    ({"questions": [PREDICATE] * 401}, "questions", "array_above_max_length"),
    ({"questions": [{"instructions": "x"}]}, "questions[0].type", MISSING),
    ({"questions": [{"type": "noul", "instructions": "x"}]}, "questions[0].type", "invalid_value"),
    ({"questions": [{"type": "predicate"}]}, "questions[0].instructions", MISSING),
    ({"questions": [{"type": "predicate", "instructions": ""}]}, "questions[0].instructions", "empty_string"),
    ({"questions": [{"type": "predicate", "instructions": []}]}, "questions[0].instructions", "empty_array"),
    ({"questions": [{**PREDICATE, "choices": []}]}, "questions[0].choices", UNKNOWN),
    ({"questions": [{**PREDICATE, "name": 3}]}, "questions[0].name", "invalid_type"),
    ({"questions": [{**PREDICATE, "instructions": [{**TEXT, "prompt_cache_breakpoint": {"mode": "explicit"}}]}]},
     "questions[0].instructions[0].prompt_cache_breakpoint", UNKNOWN),
    ({"questions": [{**PREDICATE, "instructions": [json_part(nested(33))]}]},
     "questions[0].instructions[0].data", "json_too_large"),
    ({"questions": [{**PREDICATE, "instructions": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]},
     "questions[0].instructions[0].image_url", "invalid_image_url"),
    ({"questions": [{"type": "choice", "instructions": "x"}]}, "questions[0].choices", MISSING),
    ({"questions": [{**CHOICE, "choices": [{"value": "a"}]}]}, "questions[0].choices", "array_below_min_length"),
    ({"questions": [{**CHOICE, "choices": [{"value": f"o{n}"} for n in range(256)]}]},
     "questions[0].choices", "array_above_max_length"),
    ({"questions": [{**CHOICE, "choices": [{"value": "a"}, {"value": "a"}]}]},
     "questions[0].choices[1].value", "duplicate_value"),
    ({"questions": [{**CHOICE, "choices": [{"value": True}, {"value": True}]}]},
     "questions[0].choices[1].value", "duplicate_value"),
    ({"questions": [{**CHOICE, "choices": [{"value": 1}, {"value": "a"}]}]},
     "questions[0].choices[0].value", "invalid_type"),
    ({"questions": [{**CHOICE, "choices": [{"value": ""}, {"value": "a"}]}]},
     "questions[0].choices[0].value", "empty_string"),
    ({"questions": [{**CHOICE, "choices": [{"label": "a"}, {"value": "a"}]}]},
     "questions[0].choices[0].value", MISSING),
    ({"questions": [{**CHOICE, "choices": [{"value": "a", "description": 3}, {"value": "b"}]}]},
     "questions[0].choices[0].description", "invalid_type"),
    ({"questions": [{"type": "score", "instructions": "x"}]}, "questions[0].levels", MISSING),
    ({"questions": [{**SCORE, "levels": [{"label": "a"}]}]}, "questions[0].levels", "array_below_min_length"),
    ({"questions": [{**SCORE, "levels": [{"label": f"l{n}"} for n in range(11)]}]},
     "questions[0].levels", "array_above_max_length"),
    ({"questions": [{**SCORE, "levels": [{"label": "a"}, {"label": "a"}]}]},
     "questions[0].levels[1].label", "duplicate_value"),
    ({"questions": [{**SCORE, "levels": [{"label": 1}, {"label": "a"}]}]},
     "questions[0].levels[0].label", "invalid_type"),
    ({"prompt_cache_options": {"ttl": "1h"}}, "prompt_cache_options.ttl", "invalid_value"),
    ({"prompt_cache_options": {"mode": "off"}}, "prompt_cache_options.mode", "invalid_value"),
    ({"prompt_cache_key": 3}, "prompt_cache_key", "invalid_type"),
    ({"safety_identifier": "x" * 65}, "safety_identifier", "string_above_max_length"),
    ({"temperature": 0}, "temperature", UNKNOWN),
    ({"stream": True}, "stream", UNKNOWN),
    ({"calibrate": "yes"}, "calibrate", "invalid_type"),
    ({"defer": True}, "defer", "no_threshold"),
]  # fmt: skip


def test_every_limit_and_error_names_its_place(server: ServerProcess) -> None:
    assert len(BROKEN) >= 60
    otherwise = []
    with httpx2.Client(base_url=server.base_url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as line:
        for change, param, code in BROKEN:
            body = {"model": "tiny-text", "input": "A text.", "questions": [PREDICATE]} | change
            refused = line.post("/decisions", json=body)
            error = refused.json().get("error", {})
            found = (refused.status_code, error.get("type"), error.get("param"), error.get("code"))
            expected = (404 if code == "model_not_found" else 400, "invalid_request_error", param, code)
            if found != expected:
                otherwise.append((str(change)[:200], found, expected, error.get("message")))
    assert otherwise == []


def test_options_that_look_alike_in_json_are_told_apart(client: openai.OpenAI) -> None:
    values: list[str | bool] = ['"true"', True, "true"]
    asked: Any = {**CHOICE, "choices": [{"value": value} for value in values]}
    [answer] = client.decisions.create(model="tiny-text", input="A text.", questions=[asked]).answers
    assert answer.type == "choice" and [each.value for each in answer.probabilities] == values


def test_the_largest_request_is_answered(client: openai.OpenAI) -> None:
    most: Any = {**CHOICE, "instructions": "?", "choices": [{"value": f"{n}"} for n in range(255)]}
    levels = [{"label": f"l{n}"} for n in range(10)]
    questions: Any = [most, {**SCORE, "levels": levels}, *[PREDICATE] * 398]
    items: Any = [user(json_part(nested(32))), user({"type": "input_text", "text": "?"})]
    made = client.decisions.create(model="tiny-text", input=items, questions=questions)
    check({"model": "tiny-text", "questions": questions}, made)


def test_a_conversation_that_asks_itself_is_asked_as_completions_are(client: openai.OpenAI) -> None:
    question = "Is it fine? Answer Yes or No."
    asked: Any = [{"type": "choice", "instructions": question, "choices": [{"value": "Yes"}, {"value": "No"}]}]
    (found,) = client.decisions.create(model="tiny-text", input=question, questions=asked).answers
    made = client.chat.completions.create(
        model="tiny-text", messages=[{"role": "user", "content": question}], max_tokens=1, logprobs=True,
        top_logprobs=20, logit_bias={"2": -100},
    )  # fmt: skip
    content = (made.choices[0].logprobs or pytest.fail()).content or []
    tops = {each.token: each.logprob for each in content[0].top_logprobs}
    assert found.type == "choice"
    shares = {each.value: each.probability for each in found.probabilities}
    if {"Yes", "No"} <= set(tops):
        assert math.log(shares["Yes"] / shares["No"]) == pytest.approx(tops["Yes"] - tops["No"], abs=1e-3)
    told: Any = [{**asked[0], "choices": [{"value": "Yes", "description": "All is well"}, {"value": "No"}]}]
    (other,) = client.decisions.create(model="tiny-text", input=question, questions=told).answers
    assert other != found


def test_an_input_is_kept_for_the_next_request_of_its_partition(client: openai.OpenAI) -> None:
    questions: Any = [PREDICATE]
    first = client.decisions.create(model="tiny-text", input="To keep.", questions=questions, prompt_cache_key="a")
    again = client.decisions.create(model="tiny-text", input="To keep.", questions=questions, prompt_cache_key="a")
    other = client.decisions.create(
        model="tiny-text", input="To keep.", questions=questions, prompt_cache_key="b",
        prompt_cache_options={"mode": "explicit"},
    )  # fmt: skip
    details = [each.usage.input_tokens_details for each in (first, again, other)]
    assert (details[0].cached_tokens, details[0].cache_write_tokens) == (0, details[1].cached_tokens)
    assert details[1].cached_tokens > details[1].cache_write_tokens == 0
    assert (details[2].cached_tokens, details[2].cache_write_tokens) == (0, 0)
    assert first.answers == again.answers == other.answers


@pytest.fixture
def calibrated(server: ServerProcess, finished: FineTuningJob) -> Iterator[str]:
    """A fine-tuned model with a calibrator for questions of one form."""
    model = finished.fine_tuned_model or ""
    body = {
        "kind": "predicate", "options": ["Yes", "No"], "least": 0.9, "threshold": 0.5,
        "curve": {"type": "log_odds", "a": 0.5, "b": 0.5, "c": -1.0},
        "asked": [{"role": "system", "text": None}, {"role": "user", "text": "Is {question} fine?"}],
    }  # fmt: skip
    with httpx2.Client(base_url=server.base_url, headers={"authorization": f"Bearer {KEY}"}) as line:
        assert line.put(f"/models/{model}/calibration", json=body).json()["calibration"] == body
        assert line.get(f"/models/{model}/calibration").json()["calibration"] == body
        yield model
        assert line.delete(f"/models/{model}/calibration").json()["deleted"]
        assert line.get(f"/models/{model}/calibration").json()["error"]["code"] == "calibration_not_found"


def test_a_calibrator_is_applied_to_what_it_was_fitted_for_and_to_nothing_else(
    client: openai.OpenAI, calibrated: str
) -> None:
    def p(text: str, **how: Any) -> tuple[float, Any]:
        asked: Any = [{"type": "predicate", "instructions": text}]
        (answer,) = client.decisions.create(model=calibrated, input=text, questions=asked, **how).answers
        assert answer.type == "predicate"
        return answer.probability, (answer.model_extra or {})["calibrated"]

    raw, said = p("Is 5 fine?", extra_body={"calibrate": False})
    assert said is False
    odds = 0.5 * math.log(raw / (1 - raw)) - 1
    assert p("Is 5 fine?") == (pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-9), True)
    assert p("Is 5 good?")[1] is False  # another question than those it was fitted on
    choice: Any = [{"type": "choice", "instructions": "Is 5 fine?", "choices": [{"value": "No"}, {"value": "Yes"}]}]
    (found,) = client.decisions.create(model=calibrated, input="Is 5 fine?", questions=choice).answers
    assert found.type == "choice"
    assert found.probabilities[1].probability == pytest.approx(p("Is 5 fine?")[0])
    apart: Any = [{"type": "predicate", "instructions": "Is 5 fine?"}]
    (put,) = client.decisions.create(model=calibrated, input="It is 5.", questions=apart).answers
    assert (put.model_extra or {})["calibrated"] is False


def test_an_unsure_answer_is_a_refusal_where_the_client_asks_for_it(client: openai.OpenAI, calibrated: str) -> None:
    asked: Any = [
        {"type": "predicate", "instructions": "Is 5 fine?", "name": "as fitted"},
        {"type": "predicate", "instructions": "It is a cat.", "name": "another"},
    ]
    plain = client.decisions.create(model=calibrated, input="Is 5 fine?", questions=asked)
    deferring = client.decisions.create(
        model=calibrated, input="Is 5 fine?", questions=asked, extra_body={"defer": True}
    )
    assert [answer.type for answer in plain.answers] == ["predicate", "predicate"]
    assert plain.answers[0].type == "predicate"
    p = plain.answers[0].probability
    expected = "predicate" if max(p, 1 - p) >= 0.9 else "refusal"
    assert [(answer.type, answer.name) for answer in deferring.answers] == [
        (expected, "as fitted"),
        ("refusal", "another"),
    ]


def test_a_calibrator_that_makes_no_sense_is_refused(server: ServerProcess, finished: FineTuningJob) -> None:
    good = {"kind": "choice", "options": ["a", "b"], "curve": {"type": "temperature", "slope": 1.0}, "asked": []}
    broken = [
        {"kind": "predicate"}, {"options": ["a"]}, {"options": ["a", "a"]},
        {"curve": {"type": "temperature", "slope": -1.0}},
        {"curve": {"type": "log_odds", "a": 1.0, "b": 1.0, "c": 0.0}}, {"least": 2.0}, {"asked": None}, {"more": 1},
        {"curve": {"type": "points", "scores": [0.5, 0.1], "probabilities": [0.1, 0.2]}, "kind": "predicate"},
    ]  # fmt: skip
    with httpx2.Client(base_url=server.base_url, headers={"authorization": f"Bearer {KEY}"}) as line:
        for change in broken:
            path = f"/models/{finished.fine_tuned_model}/calibration"
            assert line.put(path, json=good | change).status_code == 400, change
        assert line.put("/models/tiny-text/calibration", json=good).status_code == 404


def test_decisions_are_made_in_batches(client: openai.OpenAI) -> None:
    def line(name: str, **change: Any) -> dict[str, Any]:
        body = {"model": "tiny-text", "input": "A text.", "questions": [PREDICATE, CHOICE]} | change
        return {"custom_id": name, "method": "POST", "url": "/v1/decisions", "body": body}

    lines = [line("one"), line("two", input="Another text."), line("bad", questions=[])]
    batch = wait(client, start(client, lines, endpoint="/v1/decisions").id)
    made, refused = answers(client, batch.output_file_id), answers(client, batch.error_file_id)
    assert set(made) == {"one", "two"}
    alone: Any = client.decisions.create(**lines[0]["body"])
    assert Decision.model_validate(made["one"]["response"]["body"]).answers == alone.answers
    assert refused["bad"]["response"]["body"]["error"]["code"] == "empty_array"
    assert batch.usage is not None
    assert batch.usage.input_tokens > 0


def test_images_are_looked_at(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    seeing = bundled_vision_base(tmp_path)
    (home / "models.yaml").write_text(f"smollm2-135m-vision: {seeing.path}\n")
    with ServerProcess(home) as running:
        client, found = running.client(), []
        for color in ("red", "blue"):
            image = {"type": "input_image", "image_url": data_url(picture(color)), "detail": "low"}
            asked: Any = [PREDICATE, {**CHOICE, "instructions": [TEXT, image]}]
            items: Any = [user({"type": "input_image", "image_url": RED}, TEXT)]
            found.append(client.decisions.create(model="smollm2-135m-vision", input=items, questions=asked).answers)
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]
