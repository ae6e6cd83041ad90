"""Who may come in, and how the first one does."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from starlette.requests import Request
from typer.testing import CliRunner

from finetune_assets.cli.feedback import app as commands
from finetune_assets.connections import MAX_HEADER_BYTES
from finetune_assets.feedback.app.gate import MAX_BODY
from finetune_assets.feedback.app.sign_in import FREE_FAILURES, Attempts, address_of
from finetune_assets.feedback.store import reviewers
from finetune_assets.feedback.store.reviewers import ReviewerError
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


def test_whoever_guesses_waits_by_his_address_and_locks_nobody_else_out() -> None:
    attempts = Attempts()
    for second in range(FREE_FAILURES):
        assert attempts.begin("10.0.0.1", float(second)) == 0
    assert attempts.begin("10.0.0.1", 5.0) == 29.0
    assert attempts.begin("10.0.0.2", 5.0) == 0, "the reviewer himself comes from elsewhere"
    assert attempts.begin("10.0.0.1", 40.0) == 0
    assert attempts.begin("10.0.0.1", 41.0) == 59.0
    attempts.was_right("10.0.0.1")
    assert attempts.begin("10.0.0.1", 42.0) == 0


def test_strangers_bodies_are_not_read_and_nobody_s_is_without_limit(app: FeedbackProcess) -> None:
    with httpx2.Client(base_url=app.url) as client:
        large = b"x" * (MAX_BODY + 1)
        assert client.post("/review/events", content=large).status_code == 413
        refused = client.post("/review/events", content=b"x" * 1000)
        assert (refused.status_code, refused.headers.get("connection")) == (401, "close")
        assert client.post("/login", content=b"username=" + b"y" * 100_000).status_code in (401, 429)


def test_headers_without_end_are_not_read(app: FeedbackProcess) -> None:
    host, port = app.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as stranger, pytest.raises(OSError, match=r"reset|pipe"):
        stranger.sendall(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (100 * MAX_HEADER_BYTES))


def test_a_reviewer_who_is_removed_is_signed_out_everywhere(app: FeedbackProcess) -> None:
    reviewers.add_reviewer(app.db, "leaver", "long enough a password")
    form = {"username": "leaver", "password": "long enough a password"}
    with httpx2.Client(base_url=app.url) as here, httpx2.Client(base_url=app.url) as there:
        assert [client.post("/login", data=form).status_code for client in (here, there)] == [303, 303]
        assert [client.get("/review/places").status_code for client in (here, there)] == [200, 200]
        here.post("/logout")
        assert [client.get("/review/places").status_code for client in (here, there)] == [401, 200]
        assert app.command("remove-reviewer", "leaver").returncode == 0
        assert there.get("/review/places").status_code == 401
        assert there.post("/login", data=form).status_code == 401


def test_a_session_ends_by_itself(app: FeedbackProcess) -> None:
    reviewers.add_reviewer(app.db, "sleeper", "long enough a password")
    token = reviewers.open_session(app.db, "sleeper", now=time.time() - reviewers.SESSION_SECONDS - 1)
    assert reviewers.signed_in(app.db, token) is None
    assert reviewers.signed_in(app.db, reviewers.open_session(app.db, "sleeper")) is not None


def test_a_network_of_ipv6_waits_as_one() -> None:
    def address(host: str) -> str:
        return address_of(Request({"type": "http", "headers": [], "client": (host, 1)}))

    assert address("2001:db8::1") == address("2001:db8::ffff:1") != address("2001:db8:0:1::1")
    assert address("10.0.0.1") != address("10.0.0.2")


def test_reviewers_are_listed_and_removed_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_FEEDBACK_DB", f"sqlite:///{tmp_path / 'f.sqlite'}")
    run = CliRunner().invoke
    assert run(commands, ["add-reviewer", "tmp", "--role", "adjudicator"]).exit_code == 0
    assert run(commands, ["reviewers"]).stdout.split() == ["tmp", "adjudicator"]
    assert run(commands, ["remove-reviewer", "tmp"]).exit_code == 0
    assert run(commands, ["reviewers"]).stdout == ""
    assert isinstance(run(commands, ["add-reviewer", "tmp", "--role", "boss"]).exception, ReviewerError)


def test_nobody_else_on_the_machine_reads_the_database(app: FeedbackProcess) -> None:
    assert {path.stat().st_mode & 0o077 for path in app.folder.glob("feedback.sqlite*")} == {0}
