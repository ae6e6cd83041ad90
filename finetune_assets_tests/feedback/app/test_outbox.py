"""Whatever is answered is stored or shown as refused, and what comes after it is sent: the outbox never stops."""

from __future__ import annotations

import random
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from finetune_assets.feedback.store.events import history
from finetune_assets_tests.feedback.app.feedback_process import TASK, FeedbackProcess, Reviewer, settle

pytestmark = pytest.mark.xdist_group("feedback_app")
TEXT: dict[str, Any] = {"kind": "text", "options": (), "label": "x", "label_value": None, "image": None}
ADD = """([events, name]) => events.forEach((text, k) => {
  const event = JSON.parse(text);
  const order = Date.now() + k;
  const kept = { ...event, order };
  localStorage.setItem(`finetune-assets/outbox/${name}/${String(order).padStart(16, "0")}-${event.key}`,
    JSON.stringify(kept).replace('"@NaN"', "1e999").replace('"@huge"', String(2 ** 70)));
})"""


def put_in_outbox(page: Page, events: list[str], name: str = "ann") -> None:
    """Put events into the outbox of a page, as if they had been answered before it was loaded."""
    page.evaluate(ADD, [events, name])
    page.reload()
    settle(page)


def event(place: str, example: str, number: int, **changes: str) -> str:
    """An event as JSON, into which any text may be written as it is."""
    given = {
        "key": f'"00000000-0000-4000-8000-{number:012d}"',
        "task": f'"{TASK}"',
        "region": f'"{place}"',
        "queue": '"doubtful"',
        "example_id": f'"{example}"',
        "kind": '"correct"',
        "answer": '"y"',
    }
    return "{" + ",".join(f'"{name}":{value}' for name, value in (given | changes).items()) + "}"


ODD = [
    {"answer": '"\\ud800"'},
    {"comment": '"a\\u0000b"'},
    {"answer": '"\\udfff\\ud800x"'},
    {"seconds": '"@NaN"'},
    {"seconds": '"@huge"'},
    {"seconds": "-1"},
    {"undoes": '"@huge"'},
    {"undoes": '"00000000-0000-4000-8000-000000000000"', "kind": '"undo"', "answer": "null"},
    {"answer": '"' + "w" * 30_000 + '"'},
    {"comment": '"' + "\\u4e2d" * 19_000 + '"', "answer": '"' + "\\ud83d\\ude00" * 9_000 + '"'},
    {"answer": '"' + "x" * 400_000 + '"'},
    {"key": '"no uuid"'},
    {"kind": '"promote"'},
    {"queue": '"nowhere"'},
    {"task": '"other"'},
    {"region": '"a/b\\u0000"'},
    {"example_id": '""'},
    {"content": '"of before"'},
    {"extra": "1"},
    {"kind": '"adjudicate"'},
]


def test_events_that_the_server_cannot_take_are_shown_and_the_others_are_stored(
    app: FeedbackProcess, ann: Reviewer
) -> None:
    names = app.offer("odd", len(ODD) * 2 + 2, said={"answer": None}, **TEXT)
    page = ann.opens("odd")
    events = []
    for k, changes in enumerate(ODD):
        events += [event("odd", names[2 * k], 2 * k, **changes), event("odd", names[2 * k + 1], 2 * k + 1)]
    put_in_outbox(page, events)
    stored = app.decided("odd")
    assert {names[2 * k + 1] for k in range(len(ODD))} <= set(stored), "what comes after an odd one is stored"
    told = page.locator("#notices").inner_text()
    for k in range(len(ODD)):
        kept = history(app.db, TASK, "odd", names[2 * k])
        assert kept or f"Not recorded: {names[2 * k]}" in told or told.count("Not recorded") >= 15
    n_stored = sum(bool(history(app.db, TASK, "odd", names[2 * k])) for k in range(len(ODD)))
    assert n_stored + told.count("Not recorded") == len(ODD)
    page.evaluate("localStorage.clear()")


def test_every_text_is_stored_as_it_was_written_or_shown_as_refused(app: FeedbackProcess, ann: Reviewer) -> None:
    drawn = random.Random(0)
    ranges = [(0, 0x7F), (0x80, 0xFFF), (0xD000, 0xE100), (0xFFF0, 0x10010), (0x1F600, 0x1F700), (0x10FFF0, 0x10FFFF)]
    texts = ["".join(chr(drawn.randint(*drawn.choice(ranges))) for _ in range(drawn.randint(1, 40))) for _ in range(60)]
    names = app.offer("unicode", len(texts), said={"answer": None}, **TEXT)
    page = ann.opens("unicode")
    codes = [[ord(letter) for letter in text] for text in texts]
    events = page.evaluate(
        """([codes, names, task]) => codes.map((code, k) => JSON.stringify({
          key: crypto.randomUUID(), task, region: "unicode", queue: "doubtful", example_id: names[k], kind: "correct",
          answer: String.fromCodePoint(...code) }))""",
        [codes, names, TASK],
    )
    put_in_outbox(page, events)
    refused = page.locator("#notices").inner_text().count("Not recorded")
    n_stored = 0
    for name, text in zip(names, texts, strict=True):
        for kept in history(app.db, TASK, "unicode", name):
            n_stored += 1
            assert kept.answer == text.encode("utf-16", "surrogatepass").decode("utf-16")
    assert n_stored + refused == len(texts) and n_stored > 10
    page.evaluate("localStorage.clear()")


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422, 500, 501])
def test_a_status_for_good_is_shown_and_may_be_sent_again(app: FeedbackProcess, ann: Reviewer, status: int) -> None:
    region = f"status{status}"
    names = app.offer(region, 3)
    page = ann.opens(region)

    def refuse_the_first(route: Route) -> None:
        first = (route.request.post_data or "").find(names[0]) > 0
        route.fulfill(status=status, body="<html>") if first else route.continue_()

    ann.context.route("**/review/events", refuse_the_first)
    page.keyboard.press("1")
    expect(page.locator("#which")).to_have_text(names[1])
    page.keyboard.press("1")
    settle(page)
    expect(page.locator("#notices")).to_contain_text(f"Not recorded: {names[0]}")
    assert sorted(app.decided(region)) == names[1:2]
    ann.context.unroute("**/review/events", refuse_the_first)
    page.get_by_role("button", name="Send again").click()
    settle(page)
    assert sorted(app.decided(region)) == names[:2]


@pytest.mark.parametrize("trouble", [408, 429, 502, 503, 504, "abort", "portal", "json"])
def test_what_may_pass_is_waited_for(app: FeedbackProcess, ann: Reviewer, trouble: int | str) -> None:
    region = f"trouble{trouble}"
    names = app.offer(region, 2)
    page = ann.opens(region)
    seen: list[int] = []

    def fail_once(route: Route) -> None:
        seen.append(1)
        if len(seen) > 1:
            route.continue_()
        elif trouble == "abort":
            route.abort()
        elif trouble in ("portal", "json"):
            route.fulfill(status=200, body="<html>sign in</html>" if trouble == "portal" else "{}")
        else:
            route.fulfill(status=int(trouble), body="busy")

    ann.context.route("**/review/events", fail_once)
    page.keyboard.press("1")
    settle(page)
    ann.context.unroute("**/review/events", fail_once)
    assert app.decided(region)[names[0]].answer == "Yes"
    expect(page.locator("#notices")).not_to_contain_text("Not recorded")


def test_two_tabs_do_not_overwrite_each_other_s_answers(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("tabs", 12)
    pages = [ann.opens("tabs"), ann.opens("tabs")]
    ann.context.route("**/review/events", lambda route: route.abort())
    for page in pages:
        page.keyboard.press("1")
        page.keyboard.press("1")
    n = "Object.keys(localStorage).filter(name => name.includes('/outbox/')).length"
    assert pages[0].evaluate(n) == 4
    ann.context.unroute_all()
    for page in pages:
        settle(page)
