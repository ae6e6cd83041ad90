"""What later stages add to a benchmark's page: how probabilities may be used, and whether the model is promoted.

The page has a place for each, which is filled again at every run.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

from finetune_assets.evaluation.answering import UseReport
from finetune_assets.evaluation.calibration.conformal import CoverageReport
from finetune_assets.evaluation.calibration.parts import Part
from finetune_assets.evaluation.calibration.report import CalibrationReport
from finetune_assets.evaluation.operating_point import PointReport
from finetune_assets.evaluation.promotion import Standing
from finetune_assets.evaluation.statistics import Interval, p_words

Place = Literal["promotion", "use", "arms"]


def put_in(page: str, place: Place, section: str) -> str:
    """Return the page with the section in its place, instead of what was there; without the place, as it is."""
    return re.sub(
        rf"(<!--{place}-->).*?(<!--/{place}-->)", lambda ends: f"{ends[1]}{section}{ends[2]}", page, flags=re.DOTALL
    )


def promotion(standing: Standing, model: str) -> str:
    """Say whether the model answers for its region, and what speaks for and against it."""
    champion = standing.champion
    if champion is not None and champion.model == model and not standing.objections:
        tone, headline = "better", "Promoted: it answers for its region"
    else:
        tone, headline = "worse", "Not promoted"
        now = f"<code>{escape(champion.model)}</code> answers" if champion else "no model answers"
        headline += f"<small>Until then {now} for the region.</small>"
    asked = {reason.words for reason in standing.reasons}
    others = [why for why in standing.objections if why not in asked]
    rows = "".join(
        f'<li class="{"good" if reason.good else "bad"}"><b>{escape(reason.question)}</b> {escape(reason.words)}.</li>'
        for reason in standing.reasons
    )
    rows += "".join(f'<li class="bad">{escape(why)}.</li>' for why in others)
    return f'<section class="card headline {tone}"><strong>{headline}</strong><ul class="reasons">{rows}</ul></section>'


def use(
    report: CalibrationReport | CoverageReport,
    of: UseReport | None,
    picture: bytes | None = None,
    apart: Mapping[str, Sequence[Part]] | None = None,
) -> str:
    """Say what the model misses, what its probabilities are worth, also in parts, and which answers go to a person."""
    point = of.point if of else None
    parts = [_facts(point) if point else ""]
    if of is not None and of.deferral is not None:
        words = str(of.deferral)
        parts.append(f"<h3>Without a person</h3><p>{escape(words[0].upper() + words[1:])}.</p>")
        cells = "".join(f"<td>{100 * right:.1f}</td>" for _, right in of.deferral.curve)
        shares = "".join(f'<th scope="col">{100 * share:.0f} %</th>' for share, _ in of.deferral.curve)
        parts.append(
            f'<div class="wide"><table class="metrics curve"><tr><th scope="row">Surest answers</th>{shares}</tr>'
            f'<tr><th scope="row">Right, %</th>{cells}</tr></table></div>'
        )
    parts.append(f"<h3>Probabilities</h3><p>{escape(report.verdict)}</p>")
    if picture is not None:
        data = base64.b64encode(picture).decode()
        parts.append(
            f'<figure class="chart inside"><img src="data:image/png;base64,{data}" alt="reliability"></figure>'
        )
    parts += [_parts(what, each) for what, each in (apart or {}).items()]
    return f'<h2>In use</h2><section class="card use">{"".join(parts)}</section>'


def _parts(what: str, parts: Sequence[Part]) -> str:
    """Show the probabilities of each option, or in each subgroup, beside what happened."""
    rows = "".join(
        f'<tr><th scope="row">{escape(_shortened(part.name))} <small>{part.n:,} examples</small></th>'
        f"<td>{100 * part.claimed:.1f}</td>"
        f"<td><b>{100 * part.happened.estimate:.1f}</b>"
        f"<small>{100 * part.happened.low:.1f} to {100 * part.happened.high:.1f}</small></td>"
        f"<td><b>{part.error.estimate:.3f}</b><small>{part.error.low:.3f} to {part.error.high:.3f}</small></td>"
        f"<td>{'too few' if part.p_value is None else p_words(part.p_value)}"
        f"{'<small>off</small>' if part.is_off else ''}</td></tr>"
        for part in parts
    )
    head = "".join(
        f'<th scope="col">{words}</th>' for words in ("Claimed, %", "Happened, %", "Error", "Means what it says")
    )
    note = f"After calibration, on the test split; each p is raised for the number of {what}s (Holm)."
    return (
        f'<h3>Probabilities by {what}</h3><div class="wide"><table class="metrics">'
        f'<tr><th scope="col">{what.capitalize()}</th>{head}</tr>{rows}</table></div><p class="note below">{note}</p>'
    )


def _facts(point: PointReport) -> str:
    facts = [
        (f"{point.n_missed} of {point.n_positive}", "positive examples missed"),
        (f"{point.n_false_alarms} of {point.n - point.n_positive}", "negative examples raise a false alarm"),
        *_share("sensitivity", point.sensitivity),
        *_share("specificity", point.specificity),
        *_share("of positive answers right", point.ppv),
        *_share("of negative answers right", point.npv),
    ]
    if point.prevalence is not None:
        there = f"where {100 * point.prevalence:g} % are positive"
        facts += [*_share(f"of positive answers right {there}", point.ppv_there)]
        facts += [*_share(f"of negative answers right {there}", point.npv_there)]
    shown = "".join(f"<div><dd>{escape(number)}</dd><dt>{escape(words)}</dt></div>" for number, words in facts)
    note = f"The answer is the positive one from a calibrated probability of {point.threshold:.3f} on."
    return f'<dl>{shown}</dl><p class="note below">{note}</p>'


def _share(words: str, found: Interval | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    return [(f"{100 * found.estimate:.1f} %", f"{words} ({100 * found.low:.1f} to {100 * found.high:.1f})")]


def _shortened(name: str, length: int = 40) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
