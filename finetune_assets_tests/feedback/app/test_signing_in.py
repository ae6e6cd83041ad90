"""Who may come in, and how the first one does."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from finetune_assets.feedback.store import reviewers
from finetune_assets_tests.feedback.app.feedback_process import READY, TASK, FeedbackProcess

pytestmark = pytest.mark.xdist_group("feedback_app")


def test_the_first_start_makes_a_reviewer_who_signs_in_with_the_password_that_is_printed(
    app: FeedbackProcess, browser: Browser
) -> None:
    app.offer("first", 2)
    found = re.search(r"Reviewer: +(\S+)\nPassword: +(\S+)", app.greeting)
    assert found, app.greeting
    assert "feedback add-reviewer NAME" in app.greeting
    page = browser.new_page(base_url=app.url)
    page.goto(f"/?place={TASK}/first")
    page.get_by_label("Name").fill(found[1])
    page.get_by_label("Password").fill("wrong " + found[2])
    page.keyboard.press("Enter")
    expect(page.get_by_text("Name or password are wrong.")).to_be_visible()
    page.get_by_label("Name").fill(found[1])
    page.get_by_label("Password").fill(found[2])
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)
    expect(page.locator("#account")).to_contain_text(found[1])
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.close()


def test_a_reviewer_who_is_added_while_the_app_runs_can_sign_in(app: FeedbackProcess) -> None:
    added = app.command("add-reviewer", "zoe")
    assert added.returncode == 0
    password = re.search(r"Reviewer: +zoe\nPassword: +(\S+) +\(shown only now\)", added.stdout)
    assert password, added.stdout
    assert reviewers.is_password(app.db, "zoe", password[1])
