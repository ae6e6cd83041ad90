"""The real feedback app in a process of its own, and reviewers who use it in a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from finetune_assets.feedback.store import reviewers
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import Decision, decisions
from finetune_assets.feedback.store.guides import Guide, set_guide
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem, offer, offer_answers
from finetune_assets.feedback.store.reviewers import Role
from finetune_assets_tests.dataset.pictures import picture, put
from finetune_assets_tests.patience import PATIENCE_S

TASK = "cells"
PASSWORD = "quite long enough"
GUIDELINES = "A crack from edge to edge is a defect."
_COMMAND = [sys.executable, "-m", "finetune_assets.cli", "feedback"]
READY = "#review[data-state=ready]"
expect.set_options(timeout=1000 * PATIENCE_S)


class FeedbackProcess:
    """The app on a free port, over a database in `folder`; stopped at the end of the `with` block."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        url = f"sqlite:///{folder / 'feedback.sqlite'}"
        self._environment = os.environ | {"FINETUNE_ASSETS_FEEDBACK_DB": url}
        command = [*_COMMAND, "--port", str(port)]
        self.process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        self.greeting = self._read_greeting()
        self.url = self.greeting.split()[1]
        self.db = FeedbackDatabase(url)
        self.set_gold_share(0.0)

    def __enter__(self) -> FeedbackProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.db.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)

    def offer(self, region: str, n: int = 1, *, said: dict[str, Any] | None = None, **changes: Any) -> list[str]:
        """Offer `n` examples with an image each, about which the model says No; return their ids."""
        names = [f"{region}-{k:03}" for k in range(n)]
        items = [self._item(region, name, k, changes) for k, name in enumerate(names)]
        offer(self.db, TASK, region, items)
        answer = {"model": "ft:m", "answer": "No", "probability": 0.87, "base_answer": "Yes"} | (said or {})
        offer_answers(self.db, TASK, region, [ModelAnswer(example_id=name, **answer) for name in names])
        return names

    def set_gold_share(self, share: float) -> None:
        """Review the task by its guide, with so many gold questions."""
        guide = Guide(guidelines=GUIDELINES, show_model=("doubtful", "disagreement"), gold=share)
        set_guide(self.db, TASK, guide)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a sub-command over the same database."""
        command = [*_COMMAND, *arguments]
        how: Any = {"env": self._environment, "capture_output": True, "text": True, "timeout": PATIENCE_S}
        return subprocess.run(command, check=False, **how)

    def decided(self, region: str) -> dict[str, Decision]:
        """What the reviewers have decided in a region, by example."""
        return {decision.example_id: decision for decision in decisions(self.db, TASK, region)}

    def _item(self, region: str, name: str, shade: int, changes: dict[str, Any]) -> ReviewItem:
        given: dict[str, Any] = {
            "example_id": name,
            "content": f"c-{name}",
            "split": "train",
            "question": f"Is {name} defective?",
            "label": "Yes",
            "label_value": 0.67,
            "kind": "binary",
            "options": ("Yes", "No"),
            "doubt": "the experts were unsure",
        }
        if "image" not in changes:
            given["image"] = str(put(self.folder / region / f"{name}.png", picture("PNG", "L", shade=shade + 1)))
        return ReviewItem(task=TASK, region=region, **given | changes)

    def _read_greeting(self) -> str:
        assert self.process.stdout
        greeting = ""
        while not re.search(r"More:", greeting):
            greeting += (line := self.process.stdout.readline())
            assert line, greeting
        return greeting


class Reviewer:
    """Somebody with a browser of his own, signed in."""

    def __init__(
        self, browser: Browser, app: FeedbackProcess, name: str, role: Role = "reviewer", **options: Any
    ) -> None:
        self.app, self.name = app, name
        reviewers.add_reviewer(app.db, name, PASSWORD, role)
        self.context: BrowserContext = browser.new_context(base_url=app.url, **options)
        self.context.set_default_timeout(1000 * PATIENCE_S)
        form: dict[str, str | float | bool] = {"username": name, "password": PASSWORD}
        assert self.context.request.post("/login", form=form).ok

    def opens(self, region: str, queue: str = "doubtful") -> Page:
        """Open a queue in a new tab, and wait for its first example."""
        page = self.context.new_page()
        page.goto(f"/?place={TASK}/{region}&queue={queue}")
        page.wait_for_selector(READY)
        return page

    def leaves(self) -> None:
        """Close all tabs."""
        for page in self.context.pages:
            page.close()


def shown(page: Page) -> str:
    """The id of the example on the page."""
    return page.locator("#which").inner_text()


def press(page: Page, *keys: str) -> None:
    """Press keys, and wait after each until the next example is there."""
    for key in keys:
        before = shown(page)
        page.keyboard.press(key)
        page.wait_for_function("id => document.querySelector('#which').textContent !== id", arg=before)


def settle(page: Page) -> None:
    """Wait until the server has everything that was answered."""
    sent = "Object.keys(localStorage).every(name => !name.includes('/outbox/'))"
    page.wait_for_function(f"() => {sent}")
