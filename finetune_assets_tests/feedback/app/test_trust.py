"""What makes reviews worth believing: blindness, gold questions, undo and lateness, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from finetune_assets.feedback.store.browse import find_item
from finetune_assets.feedback.store.decisions import waiting
from finetune_assets.feedback.store.events import history
from finetune_assets.feedback.store.in_use import decision_on, item_id, lay_before_people
from finetune_assets.feedback.store.judging import IN_USE
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem
from finetune_assets.feedback.store.queues import LEASE_SECONDS, release, take
from finetune_assets_tests.feedback.app.feedback_process import (
    GUIDELINES,
    READY,
    TASK,
    FeedbackProcess,
    Reviewer,
    press,
    settle,
    shown,
)

pytestmark = pytest.mark.xdist_group("feedback_app")
Arrive = Callable[..., Reviewer]


def cut(route: Route) -> None:
    """No network."""
    route.abort()


def test_an_undo_without_a_network_undoes_the_last_answer_and_brings_its_example_back(
    app: FeedbackProcess, ann: Reviewer
) -> None:
    names = app.offer("offline", 6)
    page = ann.opens("offline")
    press(page, "1")
    settle(page)
    ann.context.route("**/review/**", cut)
    press(page, "2", "2")
    assert shown(page) == names[3]
    press(page, "u")
    assert shown(page) == names[2]
    press(page, "u")
    assert shown(page) == names[1]
    press(page, "x")
    ann.context.unroute("**/review/**", cut)
    settle(page)
    assert {name: decision.answer for name, decision in app.decided("offline").items()} == {
        names[0]: "Yes",
        names[1]: None,
    }
    assert [event.kind for event in history(app.db, TASK, "offline", names[2])] == ["accept", "undo"]
    assert shown(page) == names[2]


def test_an_answer_that_comes_late_is_kept_as_a_second_judgement(app: FeedbackProcess, ann: Reviewer) -> None:
    (name,) = app.offer("late", 1)
    page = ann.opens("late")
    ann.context.route("**/review/events", cut)
    page.keyboard.press("1")
    expect(page.locator("#notices")).to_contain_text("The server does not answer")
    release(app.db, "ann")
    (taken,) = take(app.db, TASK, "late", "doubtful", "ben", now=None)
    assert taken.item.example_id == name and LEASE_SECONDS
    ann.context.unroute("**/review/events", cut)
    settle(page)
    assert [event.reviewer for event in history(app.db, TASK, "late", name)] == ["ann"]
    expect(page.locator("#notices")).not_to_contain_text("Not recorded")


def test_nothing_of_a_model_is_on_the_page_or_in_the_network_before_a_blind_judgement(
    app: FeedbackProcess, ann: Reviewer, ben: Reviewer
) -> None:
    (name,) = app.offer("exam", 1, split="test")
    for reviewer, queue in ((ann, "audit"), (ben, "second_opinion")):
        page = reviewer.context.new_page()
        bodies: list[bytes] = []
        page.on(
            "response", lambda answer, seen=bodies: seen.append(answer.body()) if "/review/" in answer.url else None
        )
        page.goto(f"/?place={TASK}/exam&queue={queue}")
        page.wait_for_selector(READY)
        page.keyboard.press("a")
        assert shown(page) == name, "there is nothing to accept"
        assert page.locator("#accept").is_hidden()
        words = page.locator("#review").inner_text()
        for secret in ("ft:m", "87 %", "0.87", "0.67", "unsure", "Base model"):
            assert secret not in words
            assert not any(secret.encode() in body for body in bodies)
        assert app.decided("exam") == {}
        page.keyboard.press("2")
        settle(page)
        page.close()
    decision = app.decided("exam")[name]
    assert (decision.answer, decision.blind, decision.queue) == ("No", True, "audit")
    assert all(event.shown["blind"] for event in history(app.db, TASK, "exam", name))


def test_a_question_asked_in_use_is_answered_without_a_word_of_the_model(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("asked")
    picture = find_item(app.db, TASK, "asked", "asked-000")[0].image
    item = ReviewItem(
        task=TASK, region="asked", example_id=item_id("one"), content="one", split=IN_USE, question="Is it cracked?",
        image=picture, kind="binary", options=("Yes", "No"),
    )  # fmt: skip
    said = ModelAnswer(example_id=item.example_id, model="ft:m", answer="No", probability=0.87)
    lay_before_people(app.db, item, said, given=False)
    page = ann.context.new_page()
    bodies: list[bytes] = []
    page.on("response", lambda answer: bodies.append(answer.body()) if "/review/" in answer.url else None)
    page.goto(f"/?place={TASK}/asked&queue=in_use")
    page.wait_for_selector(READY)
    expect(page.locator("#queues")).to_contain_text("Asked")
    assert shown(page) == item.example_id and "Is it cracked?" in page.locator("#question").inner_text()
    page.keyboard.press("1")
    settle(page)
    assert not any(secret in body for body in bodies for secret in (b"ft:m", b"0.87"))
    decided = decision_on(app.db, TASK, "asked", "one")
    assert decided is not None and (decided.answer, decided.reviewers, decided.blind) == ("Yes", ("ann",), True)


def test_pressing_accept_everywhere_changes_no_held_out_label(
    app: FeedbackProcess, ann: Reviewer, ben: Reviewer, arrive: Arrive
) -> None:
    app.offer("lazy", 6, split="test")
    for reviewer in (ann, ben, arrive("gus", role="admin")):
        for queue in ("doubtful", "audit", "contested"):
            page = reviewer.opens("lazy", queue)
            for _ in range(8):
                page.keyboard.press("a")
            settle(page)
            reviewer.leaves()
            release(app.db, reviewer.name)
        page = reviewer.opens("lazy", "audit")
        page.get_by_role("tab", name="Side by side").click()
        page.wait_for_selector(".side-by-side td")
        for box in page.get_by_label("Choose").all():
            box.check()
        page.get_by_role("button", name="Accept label").click()
        settle(page)
        reviewer.leaves()
        release(app.db, reviewer.name)
    assert app.decided("lazy") == {}
    assert waiting(app.db, TASK, "lazy") == 6


def test_a_model_that_is_hidden_is_told_once_the_example_is_judged(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("after", 3)
    page = ann.opens("after", "uncertain")
    assert "Model" not in page.locator("#answers").inner_text()
    press(page, "1")
    expect(page.locator("#notices")).to_contain_text("the model says “No”")


def test_a_gold_question_looks_like_any_other_and_tells_how_good_a_reviewer_is(
    app: FeedbackProcess, ann: Reviewer, arrive: Arrive
) -> None:
    app.set_gold_share(0.5)
    app.offer("gold", 4)
    held = app.offer("goldtest", 0)
    assert held == []
    hal = arrive("hal", role="admin")
    page = hal.opens("gold", "uncertain")
    page.get_by_role("tab", name="Side by side").click()
    page.wait_for_selector(".side-by-side td")
    page.get_by_label("Choose gold-000").check()
    page.get_by_role("button", name="Make gold").click()
    expect(page.locator("#notices")).to_contain_text("gold-000 is a gold question now: Yes.")
    hal.leaves()
    release(app.db, "hal")
    first = ann.opens("gold", "doubtful")
    press(first, "2", "2")
    settle(first)
    ann.leaves()
    release(app.db, "ann")
    ivy = arrive("ivy")
    bodies: list[str] = []
    page = ivy.context.new_page()
    page.on("response", lambda answer: bodies.append(answer.text()) if "/review/take" in answer.url else None)
    page.goto(f"/?place={TASK}/gold&queue=second_opinion")
    page.wait_for_selector(READY)
    while page.locator("#review").get_attribute("data-state") == "ready":
        page.keyboard.press("2")
        settle(page)
        page.wait_for_timeout(200)
    assert "gold-000" in bodies[0] and '"gold"' not in bodies[0]
    page.get_by_role("tab", name="Quality").click()
    expect(page.locator("#quality")).to_contain_text("ivy")
    row = page.locator("#quality tr", has_text="ivy").last
    expect(row).to_contain_text("0 of 1")
    app.set_gold_share(0.0)


def test_guidelines_and_keys_are_in_reach(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("guide", 1)
    page = ann.opens("guide")
    page.keyboard.press("g")
    expect(page.locator("#guidelines p")).to_have_text(GUIDELINES)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("Undo your last answer")
    page.keyboard.press("a")
    page.keyboard.press("Escape")
    assert shown(page) == "guide-000"


def test_whoever_is_too_fast_to_have_looked_is_told(app: FeedbackProcess, arrive: Arrive) -> None:
    app.offer("hasty", 14)
    page = arrive("jim").opens("hasty")
    # However long a busy machine takes, hardly any time is spent on looking.
    page.evaluate("let now = performance.now(); performance.now = () => now += 1")
    press(page, *"a" * 12)
    expect(page.locator("#notices")).to_contain_text("less than a second")


def test_options_beyond_nine_have_keys_of_two_digits(app: FeedbackProcess, ann: Reviewer) -> None:
    options = tuple(f"class {k}" for k in range(1, 13))
    names = app.offer("many", 3, kind="choice", options=options, label="class 2", said={"answer": None})
    page = ann.opens("many")
    page.keyboard.press("1")
    page.keyboard.press("2")
    expect(page.locator("#which")).to_have_text(names[1])
    press(page, "1")
    settle(page)
    assert [app.decided("many")[name].answer for name in names[:2]] == ["class 12", "class 1"]


def test_numbers_are_read_as_people_write_them(app: FeedbackProcess, ann: Reviewer) -> None:
    number = {"kind": "number", "options": (), "label": "300", "label_value": 300.0, "image": None}
    names = app.offer("written", 2, said={"answer": "280", "base_answer": "90"}, **number)
    page = ann.opens("written")
    page.keyboard.press("e")
    page.keyboard.type("$1,234.50")
    page.keyboard.press("Enter")
    expect(page.locator("#which")).to_have_text(names[1])
    settle(page)
    assert app.decided("written")[names[0]].answer == "$1,234.50"


def test_black_and_white_of_a_deep_image_are_chosen_among_its_own_values(app: FeedbackProcess, ann: Reviewer) -> None:
    values = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    original = app.folder / "deep.png"
    Image.fromarray(values).save(original)
    app.offer("deep", 1, original=str(original))
    page = ann.opens("deep")
    expect(page.locator("#range")).to_have_text("values 0 to 4095")
    page.get_by_label("Black: stored value").fill("1000")
    page.get_by_label("White: stored value").fill("1010")
    page.keyboard.press("Tab")
    greys = """image => { const c = document.createElement("canvas"); c.width = c.height = 64;
      const d = c.getContext("2d"); d.drawImage(image, 0, 0); const p = d.getImageData(0, 0, 64, 64).data;
      return [p[4 * 990], p[4 * 1005], p[4 * 1020]]; }"""
    page.wait_for_function("() => document.querySelector('#stage img').src.includes('low=1000&high=1010')")
    black, between, white = page.locator("#stage img").evaluate(greys)
    assert (black, white) == (0, 255) and 100 < between < 160


def test_the_page_costs_few_requests(app: FeedbackProcess, arrive: Arrive) -> None:
    app.offer("few", 6)
    kim = arrive("kim")
    page = kim.context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/?place={TASK}/few&queue=doubtful")
    page.wait_for_selector(READY)
    page.wait_for_load_state("networkidle")
    assert len(asked) <= 20
