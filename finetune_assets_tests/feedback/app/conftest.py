"""One app and one browser for all tests here: give each test a region and reviewers of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from finetune_assets_tests.feedback.app.feedback_process import FeedbackProcess, Reviewer

Arrive = Callable[..., Reviewer]


@pytest.fixture(scope="package")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedbackProcess]:
    """The app, at its first start over an empty database."""
    with FeedbackProcess(tmp_path_factory.mktemp("feedback")) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser that is installed on this machine."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def _ann(app: FeedbackProcess, browser: Browser) -> Reviewer:
    return Reviewer(browser, app, "ann")


@pytest.fixture(scope="package")
def _ben(app: FeedbackProcess, browser: Browser) -> Reviewer:
    return Reviewer(browser, app, "ben")


@pytest.fixture
def ann(_ann: Reviewer) -> Iterator[Reviewer]:
    """A reviewer; her browser keeps what it has loaded from test to test, which saves most of their time."""
    yield _ann
    _ann.leaves()


@pytest.fixture
def ben(_ben: Reviewer) -> Iterator[Reviewer]:
    """Another reviewer, in a browser of his own."""
    yield _ben
    _ben.leaves()


@pytest.fixture
def arrive(app: FeedbackProcess, browser: Browser) -> Iterator[Arrive]:
    """Lets further reviewers arrive, each with a browser of his own, such as a phone."""
    arrived: list[Reviewer] = []

    def arrive(name: str, **options: Any) -> Reviewer:
        arrived.append(Reviewer(browser, app, name, **options))
        return arrived[-1]

    yield arrive
    for reviewer in arrived:
        reviewer.context.close()
