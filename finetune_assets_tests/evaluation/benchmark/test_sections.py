"""What later stages add to the page."""

import numpy as np
import pytest

from finetune_assets.evaluation import answering, calibration
from finetune_assets.evaluation.benchmark import sections
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.page import to_html
from finetune_assets.evaluation.promotion import Standing, consider
from finetune_assets.evaluation.promotion_policy import Reason
from finetune_assets.evaluation.scoring.binary import YES_NO
from finetune_assets.task.judging import Benchmark, Defer, OperatingPoint
from finetune_assets_tests.evaluation.benchmark.test_page import Page
from finetune_assets_tests.evaluation.predictions import predictions
from finetune_assets_tests.evaluation.test_promotion import model

PAGE = to_html(compare(predictions()))


def test_a_section_takes_the_place_of_the_one_before_it() -> None:
    once = sections.put_in(PAGE, "use", "<p>earlier words</p>")
    assert sections.put_in(once, "use", r"<p>\\1 second</p>").count("<p>") == once.count("<p>")
    assert "earlier words" not in sections.put_in(once, "use", "second")
    assert sections.put_in("another page", "use", "second") == "another page"


@pytest.mark.parametrize("good", [True, False])
def test_the_page_says_whether_a_model_is_promoted_and_why(good: bool) -> None:
    reason = Reason("Is it <better>?", good, "it gains +3.0 points")
    standing = consider(Standing(), model("ft:new"), [reason], needs_approval=False)
    html = sections.put_in(PAGE, "promotion", sections.promotion(standing, "ft:new"))
    text = Page(html).text
    assert ("Promoted: it answers for its region" in text) is good
    assert ("Not promoted" in text and "no model answers" in text) is not good
    assert "Is it <better>? it gains +3.0 points." in text


def test_a_person_who_has_yet_to_agree_is_a_reason_too() -> None:
    standing = consider(Standing(), model("ft:new"), [], needs_approval=True)
    assert "a person has to approve it" in sections.promotion(standing, "ft:new")


def test_the_page_says_what_is_missed_and_what_goes_to_a_person() -> None:
    frame = predictions(n=300, fine_tuned=0.9)
    asked = Benchmark(
        operating_point=OperatingPoint(sensitivity=0.9, prevalence=0.02), defer=Defer(target_accuracy=0.8)
    )
    known = calibration.evidence(frame, "test", YES_NO)
    fitted = calibration.fit(known, YES_NO, "ft")
    rule = answering.fit(asked, fitted, known, YES_NO)
    assert rule is not None and answering.Rule.from_dict({"threshold": rule.threshold, "least": rule.least}).least
    use = answering.judge(asked, rule, fitted, known, YES_NO)
    assert use is not None and use.point is not None and use.broken == ()
    text = Page(sections.put_in(PAGE, "use", sections.use(calibration.judge(fitted, known, "ft"), use, b"png"))).text
    assert f"{use.point.n_missed} of {np.sum(known.truth == 1)}" in text
    assert "where 2 % are positive" in text and "the rest goes to a person" in text


def test_the_page_shows_each_subgroups_probabilities_beside_what_happened() -> None:
    frame = predictions(n=300, fine_tuned=0.9).assign(subgroup=lambda rows: ["old <line>", "new"] * (len(rows) // 2))
    known = calibration.evidence(frame, "test", YES_NO)
    fitted = calibration.fit(known, YES_NO, "ft")
    parts = calibration.judge_parts(fitted, frame, known, YES_NO)
    text = Page(sections.use(calibration.judge(fitted, known, "ft"), None, b"png", parts)).text
    assert [part.n for part in parts["subgroup"]] == [150, 150]
    assert "Probabilities by subgroup" in text and "old <line>" in text and "raised for the number of subgroups" in text
