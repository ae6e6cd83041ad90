"""A contest as a section of the benchmark's page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from finetune_assets.evaluation.arms.contest import Contest
from finetune_assets.evaluation.arms.result import ArmResult, Pair
from finetune_assets.evaluation.statistics import Interval, p_words, signed_parts

_HEAD = ("Against the first, points", "Calibration error", "Seconds, p50 and p99", "USD per 1,000")
_NOTE = (
    "All arms answered the same examples; below each share is its 95 % interval. Below a difference stand its 95 % "
    "interval and the paired test's p, raised for every two arms that could be compared (Holm). The calibration error "
    "is of the probabilities as the arm gives them; the fine-tuned model's are calibrated on examples that no arm is "
    "judged by. Seconds are of answers asked for many at once. Costs are of models' "
    "answers, without training, hosting and people."
)
_PEOPLE = (
    "* Of its own answers alone: what a person answers is not judged, so that it has no place among the others. From "
    "which probability on it answers by itself was chosen on the calibration split."
)


def section(found: Contest) -> str:
    """Say which arm to take, draw and list all of them, and say what would change the advice."""
    words, *more = found.advice.words.split(": ", 1)
    parts = [f"<p><b>{escape(words)}:</b> {escape(more[0])}</p>" if more else f"<p>{escape(found.advice.words)}</p>"]
    parts.append(_race(found))
    head = "".join(f'<th scope="col">{escape(words)}</th>' for words in ("Arm", f"{found.label}, %", *_HEAD))
    rows = "".join(_rows(found))
    parts.append(f'<table class="metrics arms"><tr>{head}</tr>{rows}</table>')
    parts.append(f'<p class="note below">{escape(_NOTE)}{" " + _PEOPLE if found.with_people else ""}</p>')
    for arm in found.ranked:
        if arm.prompt is not None:
            parts.append(f"<h3>The prompt of {escape(arm.name)}</h3><pre>{escape(arm.prompt) or '(none)'}</pre>")
    if found.advice.changes:
        listed = "".join(f"<li>{escape(one)}</li>" for one in found.advice.changes)
        parts.append(f'<h3>What would change this</h3><ul class="changes">{listed}</ul>')
    if found.left_out:
        listed = "".join(f"<li><b>{escape(one.name)}</b>: {escape(one.why)}.</li>" for one in found.left_out)
        parts.append(f'<h3>Left out</h3><ul class="changes">{listed}</ul>')
    return f'<h2>What else could answer</h2><section class="card contest">{"".join(parts)}</section>'


def _race(found: Contest) -> str:
    """Draw the deciding metric of each arm with its interval on one scale, whose ends are whole tens of percent."""
    arms = [*found.ranked, *found.with_people]
    left = 10 * math.floor(10 * min(arm.value.low for arm in arms) + 1e-9)
    right = max(left + 10, 10 * math.ceil(10 * max(arm.value.high for arm in arms) - 1e-9))

    def place(share: float) -> float:
        return 100 * (100 * share - left) / (right - left)

    lines = []
    for arm in arms:
        low, middle, high = (place(share) for share in (arm.value.low, arm.value.estimate, arm.value.high))
        mark = ' class="taken"' if arm.name == found.advice.arm else ""
        star = "*" if arm in found.with_people else ""
        lines.append(
            f'<div{mark}><span>{escape(arm.name)}{star}</span><div class="track"><i style="left:{low:.1f}%;width:'
            f'{high - low:.1f}%"></i><b style="left:{middle:.1f}%"></b></div>'
            f"<span>{100 * arm.value.estimate:.1f}</span></div>"
        )
    scale = f"<span>{left} %</span><span>{escape(found.label.lower())}</span><span>{right} %</span>"
    ends = f'<div class="scale"><span></span><div>{scale}</div><span></span></div>'
    return f'<div class="race">{"".join(lines)}{ends}</div>'


def _rows(found: Contest) -> Iterator[str]:
    first = found.ranked[0]
    behind = {pair.worse: pair for pair in found.pairs if pair.better == first.name}
    for arm in found.ranked:
        yield _row(found, arm, arm.name, _against(behind.get(arm.name)))
    for arm in found.with_people:
        total = arm.n + arm.n_handed
        yield _row(found, arm, f"{arm.name}*", f"<small>answers {arm.n:,} of {total:,}</small>")


def _row(found: Contest, arm: ArmResult, name: str, against: str) -> str:
    wrong = [f"{arm.n_failed} failed" if arm.n_failed else "", f"{arm.n_unparseable} unreadable"
             if arm.n_unparseable else ""]  # fmt: skip
    noted = "".join(f"<small>{words}</small>" for words in wrong if words)
    right = arm.value
    cells = (
        f"<b>{100 * right.estimate:.1f}</b><small>{100 * right.low:.1f} to {100 * right.high:.1f}</small>{noted}",
        against,
        _error(arm),
        "" if arm.p50_s is None or arm.p99_s is None else f"<b>{arm.p50_s:.2f}</b><small>{arm.p99_s:.2f}</small>",
        "<small>not known</small>" if arm.usd_per_1000 is None else f"<b>{arm.usd_per_1000:,.2f}</b>",
    )
    labels = (f"{found.label}, %", *_HEAD)
    shown = "".join(f'<td data-label="{escape(label)}">{cell}</td>' for label, cell in zip(labels, cells, strict=True))
    mark = ' class="taken"' if arm.name == found.advice.arm else ""
    return f'<tr{mark}><th scope="row"><b>{escape(name)}</b><small>{escape(arm.how)}</small></th>{shown}</tr>'


def _against(pair: Pair | None) -> str:
    if pair is None:
        return "<small>the first</small>"
    found = pair.difference
    turned = Interval(-found.estimate, -found.high, -found.low, found.level)
    change, low, high = signed_parts(turned, scale=100)
    return f"<b>{change}</b><small>{low} to {high}</small><small>{p_words(pair.p_value)}</small>"


def _error(arm: ArmResult) -> str:
    if arm.calibration_error is None:
        return "<small>no probabilities</small>"
    found = arm.calibration_error
    said = "<small>calibrated</small>" if arm.is_calibrated else ""
    return f"<b>{found.estimate:.3f}</b><small>{found.low:.3f} to {found.high:.3f}</small>{said}"
