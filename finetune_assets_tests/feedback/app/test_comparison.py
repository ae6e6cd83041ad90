"""The table that puts base model, fine-tuned model and people side by side."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from finetune_assets_tests.feedback.app.feedback_process import FeedbackProcess, Reviewer, settle

pytestmark = pytest.mark.xdist_group("feedback_app")


def opened(ann: Reviewer, region: str) -> Page:
    """The table of a region."""
    page = ann.opens(region, "audit")
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
    assert row.locator("td").all_inner_texts()[2:] == [
        "Yes",
        "No\nright with 87 %",
        "Yes\nthe experts were unsure",
        "Yes\nann",
    ]
    assert row.locator(".right").inner_text() == "Yes" and row.locator(".wrong").inner_text() == "No"


def test_it_is_paged(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("pages", 60)
    page = opened(ann, "pages")
    where = page.locator("#where")
    expect(where).to_have_text("1 to 25 of 60")
    expect(page.get_by_role("button", name="←")).to_be_disabled()
    for expected in ("26 to 50 of 60", "51 to 60 of 60"):
        page.get_by_role("button", name="→").click()
        expect(where).to_have_text(expected)
    expect(page.get_by_role("button", name="→")).to_be_disabled()
    expect(page.locator(".side-by-side tr")).to_have_count(11)


def test_it_is_filtered_and_searched(app: FeedbackProcess, ann: Reviewer) -> None:
    app.offer("filters", 30)
    page = ann.opens("filters")
    page.keyboard.press("2")
    settle(page)
    page = opened(ann, "filters")
    where = page.locator("#where")
    page.get_by_label("Reviewed").check()
    expect(where).to_have_text("1 to 1 of 1")
    page.get_by_label("Model wrong").check()
    expect(where).to_have_text("1 to 25 of 29")
    page.get_by_label("All").check()
    page.get_by_placeholder("Search").fill("s-01")
    expect(where).to_have_text("1 to 10 of 10")
    page.get_by_placeholder("Search").fill("100%")
    expect(where).to_have_text("none")
