"""What strangers, other sites, hostile data and the network get: nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import expect

from finetune_assets_tests.feedback.app.feedback_process import READY, TASK, FeedbackProcess, Reviewer

pytestmark = pytest.mark.xdist_group("feedback_app")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}${7*7}"


@pytest.fixture
def stranger(app: FeedbackProcess) -> Iterator[httpx2.Client]:
    """Somebody who is not signed in."""
    with httpx2.Client(base_url=app.url) as client:
        yield client


@pytest.fixture
def signed_in(ann: Reviewer, stranger: httpx2.Client) -> httpx2.Client:
    """Somebody who is, and asks without a browser."""
    stranger.cookies.update({cookie.get("name", ""): cookie.get("value", "") for cookie in ann.context.cookies()})
    return stranger


def said(region: str, example: str, **changes: object) -> dict[str, object]:
    """An acceptance as the page sends it."""
    given = {"key": str(uuid.uuid4()), "task": TASK, "region": region, "queue": "audit", "example_id": example}
    return given | {"kind": "accept", "answer": "No"} | changes


@pytest.mark.parametrize("path", ["/review/counts?task=cells&region=mono", "/review/image?task=a&region=b&example=c"])
def test_strangers_are_told_nothing(stranger: httpx2.Client, path: str) -> None:
    assert stranger.get(path).status_code == 401


def test_strangers_record_nothing(app: FeedbackProcess, stranger: httpx2.Client) -> None:
    (name,) = app.offer("stranger")
    assert stranger.post("/review/events", json=said("stranger", name)).status_code == 401
    assert app.decided("stranger") == {}


def test_the_reviewer_is_who_is_signed_in_whatever_the_request_says(
    app: FeedbackProcess, signed_in: httpx2.Client
) -> None:
    (name,) = app.offer("whose")
    assert signed_in.post("/review/events", json=said("whose", name, reviewer="ben")).status_code == 422
    assert signed_in.post("/review/events", json=said("whose", name)).status_code == 200
    assert app.decided("whose")[name].reviewers == ("ann",)


def test_what_is_sent_twice_is_recorded_once(app: FeedbackProcess, signed_in: httpx2.Client) -> None:
    (name,) = app.offer("twice")
    event = said("twice", name)
    first, second = (signed_in.post("/review/events", json=event).json()["last"] for _ in range(2))
    assert first["key"] == second["key"]


def test_an_answer_that_is_no_word_of_the_task_is_refused(app: FeedbackProcess, signed_in: httpx2.Client) -> None:
    (name,) = app.offer("words")
    refused = signed_in.post("/review/events", json=said("words", name, answer="Perhaps"))
    assert refused.status_code == 409
    assert "one of Yes, No" in refused.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/file=/etc/passwd",
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/static/../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/routes.py",
        "/page/%2e%2e%2fserver.py",
        "/page//etc/passwd",
        "/monitoring",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_file_but_the_page_s_is_reachable(signed_in: httpx2.Client, path: str) -> None:
    assert signed_in.get(path).status_code in (403, 404)


def test_images_are_asked_for_by_id_and_never_by_path(app: FeedbackProcess, signed_in: httpx2.Client) -> None:
    (name,) = app.offer("ids")
    asked = {"task": TASK, "region": "ids", "example": name}
    found = signed_in.get("/review/image", params=asked)
    assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
    small = signed_in.get("/review/image", params=asked | {"side": 64})
    assert small.headers["content-type"] == "image/jpeg"
    for example in ("/etc/passwd", f"../ids/{name}", str(app.folder / "ids" / f"{name}.png")):
        assert signed_in.get("/review/image", params=asked | {"example": example}).status_code == 409


@pytest.mark.parametrize(
    "sent", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}]
)
def test_other_sites_cannot_answer_in_a_reviewers_name(
    app: FeedbackProcess, signed_in: httpx2.Client, sent: dict[str, str]
) -> None:
    (name,) = app.offer("foreign")
    assert signed_in.post("/review/events", json=said("foreign", name), headers=sent).status_code == 403
    assert app.decided("foreign") == {}


def test_hostile_text_is_shown_as_it_is(app: FeedbackProcess, ann: Reviewer) -> None:
    words = {"kind": "text", "options": (), "label": HOSTILE, "question": HOSTILE, "doubt": HOSTILE, "image": None}
    app.offer("hostile", said={"answer": HOSTILE, "base_answer": HOSTILE, "model": HOSTILE}, **words)
    page = ann.opens("hostile")
    assert page.locator("#question").inner_text() == HOSTILE
    page.get_by_role("tab", name="Side by side").click()
    expect(page.locator(".side-by-side td").nth(2)).to_contain_text(HOSTILE)
    assert page.title() == "Feedback"
    assert page.locator(".side-by-side script, .side-by-side img").count() == 0


def test_the_page_speaks_with_no_host_but_ours(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("alone-in-the-world", 2)
    page = ann.context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/?place={TASK}/alone-in-the-world&queue=doubtful")
    page.wait_for_selector(READY)
    page.get_by_role("tab", name="Side by side").click()
    page.wait_for_selector(".side-by-side img")
    hosts = {urlsplit(url).netloc for url in asked if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {urlsplit(app.url).netloc}


def test_the_browser_is_told_to_reach_nobody_else(stranger: httpx2.Client) -> None:
    headers = stranger.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]


def test_it_listens_on_this_machine_only_unless_told(app: FeedbackProcess) -> None:
    assert urlsplit(app.url).hostname == "127.0.0.1"
