"""Whatever is sent to any route of the feedback app, by whom ever, an answer comes, and never a 500.

`FUZZ_REQUESTS=10000` sends as many instead of a few.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Route
from starlette.testclient import TestClient

from finetune_assets.feedback.app.server import add_reviewer, make_app
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.offers import offer
from finetune_assets_tests.feedback.store.builders import item

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "100"))
KNOWN = {"task": "cells", "region": "mono", "queue": "doubtful", "example_id": "one", "wanted": "all"}
NAMES = (
    *KNOWN,
    "text",
    "offset",
    "n",
    "key",
    "kind",
    "answer",
    "comment",
    "seconds",
    "undoes",
    "release",
    "range",
    "to",
)
WORDS = st.text(max_size=30) | st.sampled_from(
    ["", "\0", "\ud800", "é" * 6000, "../../etc/passwd", "%00", "correct", "undo", "1e999", "-1", "²", "9" * 400]
)
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | WORDS, inner, max_size=4),
    max_leaves=8,
)
GIVEN = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12)
BODIES = st.binary(max_size=200) | VALUES.map(json.dumps).map(str.encode) | GIVEN.map(
    lambda given: json.dumps(KNOWN | {"key": "00000000-0000-4000-8000-000000000000"} | given).encode()
)  # fmt: skip
FORMS = st.lists(st.tuples(st.sampled_from(["username", "password", "a"]), WORDS), max_size=12)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[BaseRoute], dict[str, TestClient]]]:
    """The app's routes, and who asks: an admin, a reviewer, a stranger."""
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    with FeedbackDatabase(f"sqlite:///{folder / 'feedback.sqlite'}") as db:
        offer(db, KNOWN["task"], KNOWN["region"], [item("one")])
        app = make_app(db)
        found = {"a stranger": TestClient(app, raise_server_exceptions=False)}
        for role in ("admin", "reviewer"):
            password = add_reviewer(db, role, role)
            client = TestClient(app, raise_server_exceptions=False)
            client.post("/login", data={"username": role, "password": password}, follow_redirects=False)
            assert client.get("/review/places").status_code == 200
            found[role] = client
        yield app.routes, found


def as_query(asked: Mapping[str, object]) -> str:
    query = urlencode({name: str(value).encode("utf-8", "surrogatepass") for name, value in asked.items()})
    return query[:20_000]  # the client itself sends no more


@settings(max_examples=REQUESTS, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_request_has_an_answer_that_is_no_500(
    clients: tuple[list[BaseRoute], dict[str, TestClient]], data: st.DataObject
) -> None:
    routes, whose = clients
    known = [route for route in routes if isinstance(route, Route)]
    route = data.draw(st.sampled_from(known))
    method = data.draw(
        st.sampled_from([*(route.methods or ()), *(route.methods or ()), "GET", "POST", "PUT", "OPTIONS"])
    )
    client = whose[data.draw(st.sampled_from(list(whose)))]
    query = as_query(data.draw(GIVEN | GIVEN.map(lambda given: KNOWN | given)))
    body = data.draw(BODIES if route.path != "/login" else BODIES | FORMS.map(as_form))
    answer = client.request(method, f"{route.path}?{query}", content=body, follow_redirects=False)
    assert answer.status_code < 500, (method, route.path, query[:300], body[:300], answer.text)


def as_form(fields: list[tuple[str, str]]) -> bytes:
    return "&".join(f"{name}={quote(text, errors='replace')}" for name, text in fields).encode()


FORM = [b"a=1&" * 50, b"username=%00admin&password=x", b"\xff\xfe", b"&&&==;;"]


@pytest.mark.parametrize("form", FORM, ids=["fields", "NUL", "no text", "signs"])
def test_an_odd_form_at_the_sign_in_is_no_error_of_the_server(
    clients: tuple[list[BaseRoute], dict[str, TestClient]], form: bytes
) -> None:
    assert clients[1]["a stranger"].post("/login", content=form).status_code in (400, 401, 429)
