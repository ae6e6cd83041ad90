"""A reviewer's afternoon in a real browser: by keyboard, without losing anything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from finetune_assets.dataset.shown import Shown, written
from finetune_assets.feedback.app.review_api import AHEAD
from finetune_assets.feedback.store.events import history
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.feedback.app.feedback_process import (
    PASSWORD,
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


def beside(app: FeedbackProcess, name: str) -> Shown:
    """One of several images that an example shows."""
    data = picture("PNG", "L", size=(8, 8))
    path = put(app.folder / f"{name}.png", data)
    hashed = hashlib.sha256(data).hexdigest()
    known: dict[str, Any] = {
        "sha256": hashed,
        "bytes": len(data),
        "modified_ns": None,
        "width": 8,
        "height": 8,
        "format": "PNG",
    }
    return Shown(image=str(path), **known, fit=False, label=f"The {name}:")


def test_twenty_examples_by_keyboard_one_undone_and_all_there_after_the_tab_is_closed(
    app: FeedbackProcess, ann: Reviewer
) -> None:
    names = app.offer("twenty", 24)
    page = ann.opens("twenty")
    press(page, *"a1a2xaaa1aaaaaaaaaaa"[:20])
    assert shown(page) == names[20]
    press(page, "u")
    assert shown(page) == names[19]
    page.close()

    page = ann.opens("twenty")
    assert shown(page) == names[19]
    assert "19 done today · 5 left" in page.locator("#pace").inner_text()
    decided = app.decided("twenty")
    assert sorted(decided) == names[:19]
    assert [decided[name].answer for name in names[:5]] == ["No", "Yes", "No", "No", None]
    expect(page.locator("#undo")).to_contain_text("Undo: accepted “No”")
    press(page, "u")
    assert shown(page) == names[18]


def test_what_the_reviewer_did_is_told_with_what_he_saw(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("told", 2)
    page = ann.opens("told")
    press(page, "1")
    settle(page)
    (event,) = history(app.db, TASK, "told", names[0])
    assert (event.reviewer, event.kind, event.answer) == ("ann", "correct", "Yes")
    assert event.shown == {"queue": "doubtful", "blind": False, "content": f"c-{names[0]}"}
    assert event.seconds and 0 < event.seconds < 60


def test_the_key_of_the_proposed_word_accepts_it(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("same", 2)
    page = ann.opens("same")
    press(page, "2")
    settle(page)
    assert [event.kind for event in history(app.db, TASK, "same", names[0])] == ["accept"]


def test_model_base_label_and_doubt_stand_beside_the_image(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("beside")
    page = ann.opens("beside")
    answers = page.locator("#answers").inner_text()
    for words in ("No\nright with 87 %", "Base model\nYes", "Label\nYes\nscore 0.67"):
        assert words in answers.replace("\n\n", "\n")
    assert page.locator("#doubt").inner_text() == "Waits because: the experts were unsure"
    assert page.locator("#accept").inner_text().split() == ["Accept:", "No", "A"]


def test_the_next_image_is_in_the_browser_before_it_is_shown(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("ahead", 6)
    page = ann.opens("ahead")
    loaded = "performance.getEntriesByType('resource').filter(entry => entry.name.includes('/review/image')).length"
    page.wait_for_function(f"() => {loaded} === {AHEAD}")
    page.route("**/review/**", lambda route: None)  # from now on no answer comes
    for _ in range(AHEAD - 1):
        press(page, "a")
        page.wait_for_function("() => document.querySelector('#stage img').naturalWidth")


def test_two_reviewers_at_once_never_get_the_same_example(app: FeedbackProcess, ann: Reviewer, ben: Reviewer) -> None:
    names = app.offer("two", 16)
    pages = [reviewer.opens("two") for reviewer in (ann, ben)]
    seen: list[list[str]] = [[], []]
    for _ in range(6):
        for page, mine in zip(pages, seen, strict=True):
            mine.append(shown(page))
            press(page, "a")
    assert set(seen[0]).isdisjoint(seen[1])
    assert len({*seen[0], *seen[1]}) == 12
    for page in pages:
        settle(page)
    decided = app.decided("two")
    assert {name for name in names if name in decided} == {*seen[0], *seen[1]}
    assert all(decision.n_judgements == 1 for decision in decided.values())


def test_keys_do_nothing_while_somebody_types_and_escape_leaves(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("typing", 3)
    page = ann.opens("typing")
    page.keyboard.press("c")
    page.keyboard.type("a1x su")
    assert shown(page) == names[0]
    page.keyboard.press("Escape")
    press(page, "a")
    settle(page)
    (event,) = history(app.db, TASK, "typing", names[0])
    assert (event.kind, event.comment) == ("accept", "a1x su")


def test_enter_saves_a_comment_alone(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("alone", 2)
    page = ann.opens("alone")
    page.keyboard.press("c")
    page.keyboard.type("look at the corner")
    page.keyboard.press("Enter")
    settle(page)
    assert shown(page) == names[0]
    (event,) = history(app.db, TASK, "alone", names[0])
    assert (event.kind, event.comment) == ("comment", "look at the corner")


def test_a_key_that_is_held_down_answers_once(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("held", 4)
    page = ann.opens("held")
    for _ in range(5):
        page.keyboard.down("a")  # repeats, as it is not let go
    page.keyboard.up("a")
    settle(page)
    assert sorted(app.decided("held")) == names[:1]


def test_a_number_is_corrected_by_typing_it(app: FeedbackProcess, ann: Reviewer) -> None:
    number = {"kind": "number", "options": (), "label": "300", "label_value": 300.0, "image": None}
    names = app.offer("prices", 2, said={"answer": "280", "base_answer": "90"}, **number)
    page = ann.opens("prices")
    page.keyboard.press("e")
    page.keyboard.type("dear")
    page.keyboard.press("Enter")
    assert shown(page) == names[0]
    page.locator("#other").fill("310.5")
    page.keyboard.press("Enter")
    expect(page.locator("#which")).to_have_text(names[1])
    settle(page)
    assert app.decided("prices")[names[0]].answer == "310.5"


def test_a_text_is_corrected_from_what_is_proposed(app: FeedbackProcess, ann: Reviewer) -> None:
    text = {"kind": "text", "options": (), "label": "the sun", "label_value": None, "image": None}
    names = app.offer("texts", 2, said={"answer": "the moon", "base_answer": None}, **text)
    page = ann.opens("texts")
    page.keyboard.press("e")
    assert page.locator("#other").input_value() == "the moon"
    page.keyboard.type("the star")
    page.keyboard.press("Enter")
    expect(page.locator("#which")).to_have_text(names[1])
    settle(page)
    assert app.decided("texts")[names[0]].answer == "the star"


def test_an_empty_queue_says_so_and_offers_the_others(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("last", 1)
    page = ann.opens("last")
    page.keyboard.press("s")
    expect(page.locator("#undo")).to_contain_text("skipped")
    page.wait_for_selector(READY)
    expect(page.locator("#which")).to_have_text("last-000")  # what is skipped comes back when all else is done
    page.keyboard.press("a")
    expect(page.locator("#nothing")).to_contain_text("Nothing waits in “Doubtful” any more.")


def test_a_second_opinion_sees_neither_label_nor_the_first(app: FeedbackProcess, ann: Reviewer, ben: Reviewer) -> None:
    app.offer("blind", 1, label="Yes")
    first = ann.opens("blind")
    first.keyboard.press("c")
    first.keyboard.type("my secret reason")
    first.keyboard.press("Escape")
    first.keyboard.press("1")
    settle(first)
    bodies: list[str] = []
    page = ben.context.new_page()
    page.on("response", lambda answer: bodies.append(answer.text()) if "/review/take" in answer.url else None)
    page.goto(f"/?place={TASK}/blind&queue=second_opinion")
    page.wait_for_selector(READY)
    answers = page.locator("#answers").inner_text()
    assert "Label\nhidden" in answers.replace("\n\n", "\n")
    assert page.locator("#doubt").inner_text() == ""
    assert '"label":null' in bodies[-1] and '"doubt":null' in bodies[-1] and '"model":null' in bodies[-1]
    assert not any("ft:m" in body or "0.87" in body for body in bodies)
    assert not any("secret" in body or "0.67" in body or "ann" in body.replace("cannot", "") for body in bodies)


def test_a_conflict_shows_what_was_said_and_is_decided(
    app: FeedbackProcess, ann: Reviewer, ben: Reviewer, arrive: Arrive
) -> None:
    names = app.offer("fight", 1)
    for reviewer, key, queue in ((ann, "1", "doubtful"), (ben, "2", "second_opinion")):
        page = reviewer.opens("fight", queue)
        page.keyboard.press(key)
        settle(page)
    assert app.decided("fight") == {}
    page = arrive("fay", role="adjudicator").opens("fight", "conflicts")
    said = page.locator("#judgements").inner_text()
    assert "ann says Yes" in said and "ben says No" in said
    page.keyboard.press("1")
    settle(page)
    assert app.decided("fight")[names[0]].answer == "Yes"


def test_what_has_changed_meanwhile_is_refused_with_a_message_and_shown_again(
    app: FeedbackProcess, ann: Reviewer
) -> None:
    names = app.offer("changed", 2)
    page = ann.opens("changed")
    app.offer("changed", 2, content="other", question="Is this better?")
    page.keyboard.press("1")
    expect(page.locator("#notices")).to_contain_text(f"Not recorded: {names[0]} corrected “Yes”.")
    expect(page.locator("#notices")).to_contain_text("changed since it was shown")
    expect(page.locator("#question")).to_have_text("Is this better?")
    page.reload()
    page.wait_for_selector(READY)
    expect(page.locator("#notices")).to_contain_text("Not recorded")
    page.get_by_role("button", name="Understood").click()
    expect(page.locator("#notices")).to_be_empty()
    assert app.decided("changed") == {}


def test_answers_wait_in_the_browser_while_the_server_is_silent(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("silent", 4)
    page = ann.opens("silent")

    def cut(route: Route) -> None:
        route.abort()

    ann.context.route("**/review/events", cut)
    press(page, "a", "1")
    expect(page.locator("#notices")).to_contain_text("The server does not answer")
    page.close()
    assert app.decided("silent") == {}
    ann.context.unroute("**/review/events", cut)
    page = ann.opens("silent")
    assert shown(page) == names[2]
    assert {name: decision.answer for name, decision in app.decided("silent").items()} == {
        names[0]: "No",
        names[1]: "Yes",
    }


def test_who_is_signed_out_loses_nothing(app: FeedbackProcess, arrive: Arrive) -> None:
    names = app.offer("out", 3)
    cem = arrive("cem")
    page = cem.opens("out")
    cem.context.clear_cookies()
    press(page, "a")
    expect(page.locator("#notices")).to_contain_text("You are signed out. 1 answer is kept in this browser")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Name").fill("cem")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)
    assert shown(page) == names[1]
    assert sorted(app.decided("out")) == names[:1]


def test_the_place_stays_when_the_page_is_loaded_again(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("here", 3)
    app.offer("there", 3)
    page = ann.opens("there", "uncertain")
    page.close()
    page = ann.context.new_page()
    page.goto("/")
    page.wait_for_selector(READY)
    assert shown(page).startswith("there-")
    expect(page.locator("#queues [aria-current]")).to_have_text("Uncertain 3")


def test_of_several_images_the_point_under_the_pointer_stays_where_it_is(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("several", 2, pictures=written([beside(app, "golden"), beside(app, "part")]))
    page = ann.opens("several")
    box = page.locator("#stage img").nth(1).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.wheel(0, -200)
    for number in (0, 1):
        transform = page.locator("#stage img").nth(number).evaluate("image => image.style.transform")
        # A pointer stands on whole pixels.
        assert [float(found) for found in re.findall(r"-?[\d.]+", transform)] == pytest.approx([0, 0, 1.5625], abs=0.6)


def test_zoom_and_light_are_in_reach_of_the_keys(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("zoom", 2)
    page = ann.opens("zoom")
    for key in "++bV":
        page.keyboard.press(key)
    image = page.locator("#stage img")
    assert "scale(2.44141)" in image.evaluate("image => image.style.transform")
    assert image.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    assert "brightness(1.2) contrast(0.8)" in page.locator("#stage").evaluate("stage => getComputedStyle(stage).filter")
    press(page, "a")
    assert page.locator("#zoom").inner_text() == "100 %"
    assert "brightness(1.2)" in page.locator("#stage").evaluate("stage => getComputedStyle(stage).filter")
    page.keyboard.press("0")
    assert "brightness(1)" in page.locator("#stage").evaluate("stage => getComputedStyle(stage).filter")


def test_an_image_that_cannot_be_opened_says_so(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("broken", 1, image=str(app.folder / "absent.png"))
    page = ann.opens("broken")
    page.wait_for_selector("#stage .broken", state="attached")
    said = page.locator("#stage").evaluate("stage => getComputedStyle(stage, '::before').content")
    assert "The image cannot be shown" in said


def test_a_thumb_reaches_every_button_of_a_phone(app: FeedbackProcess, arrive: Arrive) -> None:
    app.offer("phone", 3)
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    page = arrive("dee", **phone).opens("phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    image = page.locator("#stage").bounding_box()
    assert image and image["y"] < 200 and image["height"] > 300
    for name in ("Accept: No", "Yes", "Reject", "Skip", "Undo", "Comment"):
        box = page.locator("#actions").get_by_role("button", name=name).bounding_box()
        assert box and box["height"] >= 44 and box["y"] > 600 and box["y"] + box["height"] <= 844
    page.get_by_role("button", name="Accept: No").tap()
    expect(page.locator("#which")).to_have_text("phone-001")
