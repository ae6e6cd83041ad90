"""Regions of all tasks in one table, their p-values adjusted for their number."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.leaderboard import Evaluated, leaderboard, summary, to_html
from finetune_assets_tests.evaluation.predictions import predictions


@cache
def report(fine_tuned: float) -> dict[str, Any]:
    return json.loads(json.dumps(compare(predictions(fine_tuned=fine_tuned)).to_dict()))


def evaluated(task: str, region: str, fine_tuned: float = 0.85, champion: str | None = None) -> Evaluated:
    """A region whose base model is right in 60 %, as its stages keep it."""
    entry = champion and {"model": champion, "since": "2026-11-22T10:00:00+00:00"}
    return Evaluated(task, region, report(fine_tuned), {"cost_usd": 1.5}, entry or None)


def with_p(region: str, p: float) -> Evaluated:
    found = evaluated("cells", region)
    return Evaluated("cells", region, {**found.benchmark, "p_value": p}, found.model, None)


def test_each_region_has_a_row_the_largest_gain_of_a_task_first() -> None:
    rows = leaderboard([evaluated("b", "low", 0.6), evaluated("b", "high", 0.95), evaluated("a", "one")])
    assert [(row.task, row.region) for row in rows] == [("a", "one"), ("b", "high"), ("b", "low")]
    assert [row.outcome for row in rows] == ["better", "better", "inconclusive"]
    assert rows[1].difference.estimate == pytest.approx(rows[1].fine_tuned - rows[1].base)


def test_a_gain_that_several_regions_might_show_by_chance_is_none() -> None:
    alone = leaderboard([with_p("r0", 0.03)])
    among = leaderboard([with_p("r0", 0.03), *(with_p(f"r{k}", 0.5) for k in range(1, 5))])
    assert [row.outcome for row in alone] == ["better"]
    [row] = [row for row in among if row.region == "r0"]
    assert (row.outcome, row.p_holm) == ("inconclusive", pytest.approx(5 * 0.03))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_adjusting_never_makes_a_gain_surer(p_values: list[float]) -> None:
    rows = leaderboard([with_p(f"r{k}", p) for k, p in enumerate(p_values)])
    assert all(row.p_holm >= row.p_value for row in rows)


def test_the_regions_of_another_task_change_nothing() -> None:
    rows = leaderboard([with_p("r0", 0.03), evaluated("other", "r1"), evaluated("other", "r2")])
    assert next(row for row in rows if row.task == "cells").p_holm == 0.03


def test_the_page_says_who_answers_for_a_region_and_links_to_its_own() -> None:
    rows = leaderboard([evaluated("cells", "mono", champion="ft:<b>old"), evaluated("cells", "poly")])
    page = to_html(rows, "data:image/png;base64,AAAA", lambda row: f"{row.task}/benchmark/{row.region}.html")
    assert 'href="cells/benchmark/mono.html"' in page
    assert "ft:&lt;b&gt;old" in page and "since 2026-11-22; newest:" in page
    assert summary(rows) in page and "2 regions of 1 task: 2 gained, 0 lost" in page
    assert "http" not in page.replace("http-equiv", "")
