"""What is said while questions are asked."""

from __future__ import annotations

import time

import pytest

from finetune_assets.provider.pace import Pace
from finetune_assets.provider.progress import SAY_EVERY_S, Progress


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)


def progress(seconds_ago: float, total: int | None = 1000, pace: Pace | None = None) -> tuple[Progress, list[str]]:
    said: list[str] = []
    began = time.monotonic() - seconds_ago
    return Progress("m", pace or Pace(8), total, said.append, _began=began, _told=began), said


def test_count_rate_and_the_time_that_is_left_are_said() -> None:
    # 400 new ones in 40 s are 10 a second: 500 more take 50 s.
    telling, said = progress(40)
    telling.show(500, known=100)
    assert said == ["m answered 500 of 1,000 questions, 100 of them in an earlier run, 10.0 a second, about 50 s left"]


@pytest.mark.parametrize(("rate", "left"), [(2, "6 min 40 s left"), (0.1, "2 h 13 min left")])
def test_long_times_are_said_in_minutes_and_hours(rate: float, left: str) -> None:
    telling, said = progress(200 / rate)
    telling.show(200, known=0)
    assert said[0].endswith(left)


def test_nothing_is_said_again_within_ten_seconds() -> None:
    telling, said = progress(SAY_EVERY_S - 1)
    telling.show(1, known=0)
    assert said == [] and 0 < telling.due_s <= 1


def test_a_pause_and_a_lower_limit_are_said() -> None:
    pace = Pace(8)
    telling, said = progress(20, None, pace)
    pace.refused(time.monotonic(), 30)
    telling.show(10, known=10)
    assert (
        said[0] == "m answered 10 questions, 10 of them in an earlier run, the provider's rate limit holds all for 30 s"
    )
    pace = Pace(8)
    pace.refused(time.monotonic(), 0)
    telling, said = progress(20, None, pace)
    telling.show(0, known=0)
    assert said == ["m answered 0 questions, 4 at once, as its rate limit allows"]
