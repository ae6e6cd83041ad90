"""The table that puts base model, fine-tuned model and people side by side."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from finetune_assets_tests.feedback.app.conftest import Arrive
from finetune_assets_tests.feedback.app.feedback_process import READY, TASK, FeedbackProcess, Reviewer, settle

pytestmark = pytest.mark.xdist_group("feedback_app")


def opened(ann: Reviewer, region: str) -> Page:
    """The table of a region."""
    page = ann.opens(region, "uncertain")
    page.get_by_role("tab", name="Side by side").click()
    page.wait_for_selector(".side-by-side td")
    return page


def test_answers_of_all_three_stand_in_a_row_with_the_image(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("rows", 2)
    page = ann.opens("rows")
    page.keyboard.press("1")
    settle(page)
    page = opened(ann, "rows")
    row = page.locator(".side-by-side tr").nth(1)
    expect(row).to_contain_text("rows-000")
    assert row.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert row.locator("td").all_inner_texts()[3:] == [
        "Yes",
        "No\nright with 87 %\nft:m",
        "Yes\nthe experts were unsure",
        "Yes\nann",
    ]
    assert row.locator(".right").inner_text() == "Yes" and row.locator(".wrong").inner_text() == "No"


def test_it_is_paged(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("pages", 60)
    page = opened(ann, "pages")
    where = page.locator("#where")
    expect(where).to_have_text("1 to 25 of 60")
    expect(page.get_by_role("button", name="Page before")).to_be_disabled()
    for expected in ("26 to 50 of 60", "51 to 60 of 60"):
        page.get_by_role("button", name="Next page").click()
        expect(where).to_have_text(expected)
    expect(page.get_by_role("button", name="Next page")).to_be_disabled()
    expect(page.locator(".side-by-side tr")).to_have_count(11)


def test_it_is_filtered_and_searched(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("filters", 30)
    page = ann.opens("filters")
    page.keyboard.press("2")
    settle(page)
    page = opened(ann, "filters")
    where = page.locator("#where")
    page.get_by_label("Show").select_option("reviewed")
    expect(where).to_have_text("1 to 1 of 1")
    page.get_by_label("Show").select_option("model_wrong")
    expect(where).to_have_text("1 to 25 of 29")
    page.get_by_label("Show").select_option("all")
    page.get_by_placeholder("Search").fill("s-01")
    expect(where).to_have_text("1 to 10 of 10")
    page.get_by_placeholder("Search").fill("100%")
    expect(where).to_have_text("none")


def test_a_row_is_opened_and_judged(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("open-row", 3)
    page = opened(ann, "open-row")
    page.get_by_text(names[2], exact=False).first.click()
    expect(page.locator("#which")).to_have_text(names[2])
    page.keyboard.press("2")
    settle(page)
    assert app.decided("open-row")[names[2]].answer == "No"


def test_several_rows_are_judged_at_once(app: FeedbackProcess, ann: Reviewer) -> None:
    names = app.offer("bulk", 4)
    page = opened(ann, "bulk")
    for name in names[:2]:
        page.get_by_label(f"Choose {name}").check()
    expect(page.locator("#chosen")).to_have_text("2 chosen")
    page.get_by_role("button", name="Accept label").click()
    expect(page.locator("#rows")).to_contain_text("Yesann", use_inner_text=False)
    settle(page)
    assert {name: decision.answer for name, decision in app.decided("bulk").items()} == dict.fromkeys(names[:2], "Yes")


def test_a_reviewer_is_told_nothing_of_models_about_held_out_examples(
    app: FeedbackProcess, ann: Reviewer, arrive: Arrive
) -> None:
    names = app.offer("hidden", 9, split="test", doubt=None)
    bodies: list[str] = []
    page = ann.context.new_page()
    page.on("response", lambda answer: bodies.append(answer.text()) if "/review/" in answer.url else None)
    page.goto(f"/?place={TASK}/hidden&queue=audit")
    page.wait_for_selector(READY)
    page.get_by_role("tab", name="Side by side").click()
    page.wait_for_selector(".side-by-side td")
    page.get_by_label("Show").select_option("model_wrong")
    expect(page.locator("#where")).to_have_text("none")
    assert bodies and not any("ft:m" in body or "0.87" in body for body in bodies if "PNG" not in body)
    eve = arrive("eve", role="admin").opens("hidden", "audit")
    eve.get_by_role("tab", name="Side by side").click()
    expect(eve.locator(".side-by-side td").nth(4)).to_contain_text("No")
    eve.get_by_role("tab", name="Review").click()
    eve.reload()
    expect(eve.locator("#nothing")).to_contain_text("Nothing waits in “Audit” any more.")
    assert app.decided("hidden") == {} and names
