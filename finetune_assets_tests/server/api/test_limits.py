"""One request that asks for too much: it is refused quickly and by name, and nobody else notices."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import openai
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from finetune_assets.server.api.body_shape import CHAT, OTHER, BodyShapeError, check, parse
from finetune_assets_tests.patience import wait_until
from finetune_assets_tests.server_process import KEY, ServerProcess

MAX_MEMORY_BYTES = 2 << 30
SLOWEST_PROBE_S = 1.0
"""Ten times what a machine with nothing else to do needs, for 99 of 100 requests."""


@contextmanager
def probed(server: ServerProcess) -> Iterator[list[float]]:
    """Seconds that `/healthz` took, asked again and again meanwhile."""
    took: list[float] = []
    over = threading.Event()

    def probe() -> None:
        with httpx2.Client(base_url=server.base_url.removesuffix("/v1")) as client:
            while not over.wait(0.01):
                began = time.monotonic()
                client.get("/healthz").raise_for_status()
                took.append(time.monotonic() - began)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def post(server: ServerProcess, path: str, body: bytes) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    return httpx2.post(f"{server.base_url}{path}", content=body, headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", b'{"model": "tiny-text", "messages": [' + b"1," * 4_000_000 + b"1]}"),
        ("/chat/completions", b'{"model": "tiny-text", "messages": [' + b"{}," * 8_000_000 + b"1]}"),
        ("/chat/completions", b"[" * 1_000_000),
        ("/chat/completions", b'{"model": "' + b'\\"' * 20_000_000),
        ("/chat/completions", b'{"model": "' + b"a" * 30_000_000 + b'", "messages": []}'),
        ("/uploads/upload_x/complete", b'{"part_ids": [' + b"1," * 400_000 + b"1]}"),
        ("/fine_tuning/jobs", b'{"metadata": {' + b'"a": 1,' * 100_000 + b'"b": 1}}'),
        ("/fine_tuning/jobs", b'{"model": "' + b"a" * 900_000 + b'", "training_file": "file-x"}'),
    ],
    ids=["numbers", "objects", "depth", "an open string", "a long name", "parts", "metadata", "a long model"],
)
def test_a_body_of_too_much_is_refused_while_others_are_answered(server: ServerProcess, path: str, body: bytes) -> None:
    with probed(server) as took:
        answer = post(server, path, body)
        wait_until(lambda: len(took) > 10)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert sorted(took)[int(len(took) * 0.99) - 1] < SLOWEST_PROBE_S
    assert psutil.Process(server.process.pid).memory_info().rss < MAX_MEMORY_BYTES


def test_images_of_too_many_pixels_are_refused_before_any_is_decoded(server: ServerProcess) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8000, 8000)).save(buffer, "JPEG", quality=10)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    few = [{"type": "image_url", "image_url": {"url": url}}] * 30
    began = time.monotonic()
    with pytest.raises(openai.BadRequestError, match="more than 128,000,000") as refused:
        server.client().chat.completions.create(model="tiny-text", messages=[{"role": "user", "content": few}])  # pyright: ignore[reportArgumentType]
    assert time.monotonic() - began < 5
    assert refused.value.code == "too_many_pixels"
    assert refused.value.param == "messages[0].content[2].image_url.url"


def test_a_schema_deeper_than_any_answer_is_refused_by_name(server: ServerProcess) -> None:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    asked = {"type": "json_schema", "json_schema": {"name": "deep", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match="levels deep"):
        server.client().chat.completions.create(
            model="tiny-text",
            messages=[{"role": "user", "content": "x"}],
            response_format=asked,  # pyright: ignore[reportArgumentType]
        )


def test_a_file_has_a_name_of_reasonable_length(server: ServerProcess) -> None:
    with pytest.raises(openai.BadRequestError, match="has 2000 characters"):
        server.client().files.create(file=("a" * 2000, b"x"), purpose="fine-tune")


def test_answers_of_too_many_tokens_together_are_refused(server: ServerProcess) -> None:
    with pytest.raises(openai.BadRequestError, match="131,072 together"):
        server.client().chat.completions.create(
            model="tiny-text", messages=[{"role": "user", "content": "x"}], n=100, max_tokens=100_000
        )


def test_what_stands_in_strings_is_not_counted() -> None:
    check(b'{"a": "' + b"[{,]}" * 100_000 + b'\\"[[[["}', OTHER)


def test_a_limit_is_told() -> None:
    with pytest.raises(BodyShapeError, match="more than 50,000 values"):
        check(b"[" + b"0," * 50_001 + b"0]", CHAT)
    with pytest.raises(BodyShapeError, match="more than 32 levels"):
        check(b"[" * 33 + b"]" * 33, OTHER)
    with pytest.raises(BodyShapeError, match="an object in it more than 100"):
        check(b'{"a": [' + b"0," * 200 + b'0], "b": {' + b'"c": 0,' * 100 + b'"c": 0}}', OTHER)


@given(
    value=st.recursive(
        st.none() | st.integers(0, 9) | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_all_that_keeps_to_the_limits_is_parsed(value: object) -> None:
    body = json.dumps(value).encode()
    assert parse(body, CHAT) == json.loads(body)


@settings(max_examples=20)
@given(
    text=st.lists(
        st.sampled_from(["a", "é", "\U0001f600", '"', "\\", "\n", "\ud7ff", "\u0000", "/"]), min_size=1, max_size=20
    ),
    as_ascii=st.booleans(),
)
def test_long_strings_are_read_in_pieces_as_if_they_were_read_at_once(text: list[str], as_ascii: bool) -> None:
    long = "".join(text) * (2_200_000 // len(text))
    body = json.dumps({long[:700]: [long, {"b": "short"}, long[1:], 1.5, None]}, ensure_ascii=as_ascii).encode()
    assert parse(body, CHAT) == json.loads(body)


@pytest.mark.parametrize("end", [b"", b"\\", b"\\u12", b'\x01"]', b'\xff"]', b'"', b'"]]', b'\\ud800"]'])
def test_a_long_string_that_is_wrong_at_its_end_is_no_json(end: bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        parse(b'["' + "aé".encode() * 1_200_000 + end, CHAT)


@pytest.mark.parametrize("piece", ["a b", "é", "\U0001f600"])
def test_no_other_thread_waits_until_a_large_body_is_parsed(piece: str) -> None:
    text = piece * (9_900_000 // len(piece.encode()))
    body = json.dumps({"messages": [{"role": "user", "content": text}] * 6}, ensure_ascii=False).encode()
    parsing = threading.Thread(target=parse, args=(body, CHAT))
    parsing.start()
    clock = time.pthread_getcpuclockid(parsing.ident or 0)
    longest, before = 0.0, 0.0
    while parsing.is_alive():
        with suppress(OSError):  # it has just ended
            now = time.clock_gettime(clock)
            longest, before = max(longest, now - before), now
    assert before > 0.02
    # Processor time of the other thread between two moments of this one: the same under any load.
    assert longest < 0.06
