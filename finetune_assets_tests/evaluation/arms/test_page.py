"""A contest as people see it."""

from __future__ import annotations

import re
from dataclasses import replace

from finetune_assets.evaluation import charts
from finetune_assets.evaluation.arms.contest import hold
from finetune_assets.evaluation.arms.entry import Entrants, LeftOut
from finetune_assets.evaluation.arms.page import section
from finetune_assets.evaluation.scoring.binary import YES_NO
from finetune_assets.task.arms import CascadeArm
from finetune_assets_tests.evaluation.arms.entries import entry


def test_the_section_holds_every_arm_the_advice_and_who_was_left_out() -> None:
    tuned, base = entry("tuned", 0.9, 400), entry("base", 0.5, 400, seed=2)
    asked = replace(base, how="<b>it</b>")
    out = (LeftOut("frontier", "no <key>"),)
    found = hold(Entrants((tuned, asked), out), tuned, [CascadeArm(target_accuracy=0.8)], YES_NO)
    page = section(found)
    for words in ("Take tuned", "cascade*", "no &lt;key&gt;", "&lt;b&gt;it&lt;/b&gt;", "What would change this"):
        assert words in page
    assert page.count('class="taken"') == 2  # in the drawing and in the table


def test_the_drawing_for_dagster_is_a_picture_of_every_arm() -> None:
    tuned, base = entry("tuned", 0.9), entry("base", 0.5, seed=2)
    found = hold(Entrants((tuned, base)), tuned, [], YES_NO)
    assert charts.arms(found.ranked, found.label, "tuned").startswith(b"\x89PNG")


def test_every_interval_lies_on_the_scale() -> None:
    tuned, base = entry("tuned", 0.97, 40), entry("base", 0.3, 40, seed=2)
    page = section(hold(Entrants((tuned, base)), tuned, [], YES_NO))
    drawn = [(float(left), float(width)) for left, width in re.findall(r"left:([\d.-]+)%;width:([\d.-]+)%", page)]
    assert len(drawn) == 2 and all(left >= 0 and left + width <= 100.1 for left, width in drawn)
