"""Pictures for the Dagster UI and the reports: PNGs of at most about 60 kB on white, legible on light and dark pages.

The colours are Okabe and Ito's, told apart by colour-blind readers too. Figures are made without pyplot, so that no
picture is left in a global registry and several threads can draw at once.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.arms.result import ArmResult
from finetune_assets.evaluation.benchmark.report import MetricComparison
from finetune_assets.evaluation.calibration.reliability import ReliabilityBin, calibration_error, reliability_bins
from finetune_assets.evaluation.leaderboard import Row
from finetune_assets.evaluation.prediction import Prediction
from finetune_assets.evaluation.retrieval_costs import Comparison
from finetune_assets.evaluation.scoring.metric import Confusion
from finetune_assets.evaluation.scoring.number import NumberScoring
from finetune_assets.evaluation.shares import wilson
from finetune_assets.evaluation.statistics import in_words
from finetune_assets.task.answers import NumberAnswer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6B7480"
INK = "#1C2430"
DOTS_PER_INCH = 100
LOSSES = {
    "train_loss": ("training", BLUE),
    "valid_loss": ("validation, one batch", PINK),
    "full_valid_loss": ("validation, all of it", ORANGE),
}
REWARDS = {"train_reward": ("training", BLUE), "valid_reward": ("validation, all of it", ORANGE)}
BANDS = {"green": GREEN, "orange": ORANGE, "red": PINK}
"""Answered numbers that are good, nearly good, and neither."""
FEW_LABELS, MANY_LABELS, LABEL_LENGTH = 4, 8, 16
"""A confusion matrix shows shares beside counts up to few labels, counts up to many; longer labels are cut."""
MANY_STEPS = 30
"""From here on a curve is drawn as its moving average and the band that holds 80 % of it."""


def loss_curve(steps: pd.DataFrame) -> bytes:
    """Draw the losses of a job by training step.

    `steps` has the column `step` and any of `train_loss`, `valid_loss` and `full_valid_loss` (mean negative log
    likelihood of a token, in nats), NaN at the steps where one was not measured.

    Raises:
        EvaluationError: no loss in it.
    """
    return _by_step(steps, LOSSES, "Loss during training", "loss (nats per token)")


def reward_curve(steps: pd.DataFrame) -> bytes:
    """Draw the mean rewards of answers by training step (reinforcement).

    `steps` has the column `step` and any of `train_reward` and `valid_reward`, as the grader gives them, NaN at the
    steps where one was not measured.

    Raises:
        EvaluationError: no reward in it.
    """
    return _by_step(steps, REWARDS, "Reward during training", "mean reward")


def _by_step(steps: pd.DataFrame, curves: dict[str, tuple[str, str]], title: str, unit: str) -> bytes:
    """Draw columns of a table of steps; `curves` gives their labels and colours."""
    figure, (axes,) = _figure(1, width=6.4, height=3.4)
    step = steps["step"].to_numpy(dtype=float)
    for name, (label, colour) in curves.items():
        values = steps[name].to_numpy(dtype=float) if name in steps else np.empty(0)
        measured = np.isfinite(values)
        if measured.any():
            _curve(axes, step[measured], values[measured], label, colour)
    if not axes.lines:
        raise EvaluationError(f"a curve needs one of the columns {list(curves)}, got {list(steps.columns)}")
    axes.set(title=title, xlabel="training step", ylabel=unit)
    if axes.dataLim.y0 >= 0:  # a grader may give less than nothing
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _png(figure)


def costs(comparison: Comparison) -> bytes:
    """Draw what fine-tuning and retrieval cost from the beginning to the end of each month, and where they meet."""
    figure, (axes,) = _figure(1, width=6.4, height=3.4)
    months = range(len(comparison.retrieval.usd))
    for way, label, colour in (
        (comparison.retrieval, "retrieval", ORANGE),
        (comparison.fine_tuning, "fine-tuning", BLUE),
    ):
        axes.plot(months, way.usd, color=colour, marker="o", markersize=3.5, label=label)
    if met := comparison.break_even_month:
        axes.axvline(met, color=GREY, linestyle="--", linewidth=1, label=f"break-even: month {met}")
    axes.set(title="Fine-tuning or retrieval", xlabel="month", ylabel="USD since the beginning")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.4g}")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False)
    return _png(figure)


def confusion_matrix(base: Confusion, fine_tuned: Confusion) -> bytes:
    """Draw the answers of both models side by side: rows are true answers, columns answers given.

    A cell's shade is its share of the row. Unparseable answers have a column if either model gave any.
    """
    n_labels = len(base.labels)
    unparseable = any(row[n_labels] for confusion in (base, fine_tuned) for row in confusion.counts)
    few = n_labels <= FEW_LABELS
    figure, panels = _figure(2, width=7.0, height=3.3 if few else 3.6)
    for axes, title, confusion in zip(panels, ("Base", "Fine-tuned"), (base, fine_tuned), strict=True):
        counts = np.array(confusion.counts)[:, : n_labels + unparseable]
        answers = [_shortened(answer) for answer in (*confusion.labels, "unreadable")][: counts.shape[1]]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        if n_labels <= MANY_LABELS:
            _write_counts(axes, counts, shares)
        axes.set(title=title, xlabel="answer given", ylabel="true answer")
        # Long words would not fit below so many columns: these have numbers, which the rows explain.
        numbered = [str(k) for k in range(1, n_labels + 1)] + answers[n_labels:]
        axes.set_xticks(range(len(answers)), answers if few else numbered)
        rows = [f"{answer}  {number}" for answer, number in zip(answers, numbered, strict=True)]
        axes.set_yticks(range(n_labels), (answers if few else rows)[:n_labels])
        axes.tick_params(length=0, labelsize=10 if few else 6)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    panels[1].tick_params(labelleft=few)
    return _png(figure)


def truth_against_guess(models: Mapping[str, Sequence[Prediction]], answer: NumberAnswer) -> bytes:
    """Draw the numbers that each model answered against the true ones, a panel for each model by its name.

    Unreadable answers are red and counted, but have no point. Both axes are logarithmic where all numbers are positive
    and the largest true one is over 30 times the smallest.

    Raises:
        EvaluationError: a model without answers, or true answers that are no numbers.
    """
    scoring = NumberScoring(answer)
    figure, panels = _figure(len(models), width=3.7 * len(models), height=3.9)
    read = [row.predicted_value for rows in models.values() for row in rows if row.predicted_value is not None]
    for axes, (name, rows) in zip(panels, models.items(), strict=True):
        true = scoring.score(rows).truth
        ends = min(true.min(), *read, true.max()), max(true.min(), *read, true.max())
        axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, zorder=0)
        bands = np.array([scoring.band(row) for row in rows])
        guess = np.array([row.predicted_value for row in rows], dtype=float)
        for band, colour in BANDS.items():
            inside = bands == band
            unread = int(np.isnan(guess[inside]).sum())
            label = f"{inside.sum()} {band}{f', {unread} of them unreadable' if unread else ''}"
            axes.scatter(true[inside], guess[inside], s=14, color=colour, alpha=0.7, label=label)
        axes.set(title=name, xlabel="true number", ylabel="number answered")
        if _spans_decades(true, ends[0]):
            axes.set(xscale="log", yscale="log")
            _write_out(axes.xaxis, axes.yaxis)
        axes.legend(frameon=False, fontsize=8, loc="upper left", handletextpad=0.1)
    return _png(figure)


def coverage(truth: ArrayLike, guess: ArrayLike, low: ArrayLike, high: ArrayLike) -> bytes:
    """Draw the interval around each number answered [n], in rising order of that number, and the true numbers.

    Intervals without end, and on a logarithmic axis those that reach 0, end at the edge of the picture.

    Raises:
        EvaluationError: no numbers.
    """
    true, answered, lower, upper = (np.asarray(each, dtype=float) for each in (truth, guess, low, high))
    if len(true) == 0:
        raise EvaluationError("the chart of intervals needs at least 1 number, got 0")
    places = np.empty(len(true))
    places[np.argsort(answered, kind="stable")] = np.arange(len(true))
    inside = (lower <= true) & (true <= upper)
    least, most = min(true.min(), answered.min()), max(true.max(), answered.max())
    wide = _spans_decades(true, least)
    figure, (axes,) = _figure(1, width=7.0, height=3.6)
    if wide:
        axes.set_yscale("log")
    lower = np.where(np.isfinite(lower), np.maximum(lower, least) if wide else lower, least)
    upper = np.where(np.isfinite(upper), upper, most)
    axes.vlines(places, lower, upper, color=BLUE, alpha=0.3, linewidth=min(4.0, 300 / len(true)))
    axes.scatter(places, answered, s=6, color=BLUE, label="number answered")
    axes.scatter(places[inside], true[inside], s=10, color=GREEN, label=f"{inside.sum()} true numbers inside")
    axes.scatter(places[~inside], true[~inside], s=18, color=ORANGE, marker="x", label=f"{(~inside).sum()} outside")
    if wide:
        _write_out(axes.yaxis)
    axes.set(title="Intervals on the test split", xlabel="examples by number answered", ylabel="number")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return _png(figure)


def metric_intervals(comparisons: Mapping[str, MetricComparison]) -> bytes:
    """Draw every metric that is a share for both models, with its interval.

    Raises:
        EvaluationError: no metric that is a share.
    """
    shares = [row for row in comparisons.values() if row.is_share]
    if not shares:
        raise EvaluationError("the chart of metrics needs at least 1 that is a share, got 0")
    figure, (axes,) = _figure(1, width=6.4, height=1.1 + 0.5 * len(shares))
    models = (
        ("base", GREY, -0.15, [row.base for row in shares]),
        ("fine-tuned", BLUE, 0.15, [row.fine_tuned for row in shares]),
    )
    for label, colour, shift, intervals in models:
        middle = [100 * interval.estimate for interval in intervals]
        reach = 100 * np.array([[i.estimate - i.low, i.high - i.estimate] for i in intervals]).T
        places = np.arange(len(shares)) + shift
        axes.errorbar(middle, places, xerr=np.maximum(reach, 0), fmt="o", color=colour, label=label, markersize=5)
    axes.set_yticks(range(len(shares)), [row.label for row in shares])
    axes.invert_yaxis()
    axes.set(xlabel=f"percent, with {100 * shares[0].base.level:g} % intervals")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return _png(figure)


def arms(results: Sequence[ArmResult], label: str, taken: str) -> bytes:
    """Draw the deciding metric of each arm with its interval, the best first; the one that is recommended is blue.

    Raises:
        EvaluationError: no arms.
    """
    if not results:
        raise EvaluationError("there are no arms to draw")
    figure, (axes,) = _figure(1, width=6.4, height=1.2 + 0.42 * len(results))
    for place, arm in enumerate(results):
        middle, low, high = (100 * value for value in (arm.value.estimate, arm.value.low, arm.value.high))
        colour = BLUE if arm.name == taken else GREY
        axes.hlines(place, low, high, color=colour, linewidth=2)
        axes.plot(middle, place, "o", color=colour, markersize=7)
        axes.annotate(f"{middle:.1f}", (middle, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    people = [f"{arm.name}*" if arm.n_handed and arm.n < results[0].n else arm.name for arm in results]
    axes.set_yticks(range(len(results)), people)
    axes.set_ylim(len(results) - 0.4, -0.7)
    axes.set(xlabel=f"{label.lower()} in percent, with {100 * results[0].value.level:g} % intervals")
    axes.grid(visible=False, axis="y")
    return _png(figure)


def reliability(
    p_before: ArrayLike, p_after: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, event: str = "positive"
) -> bytes:
    """Draw claimed probability against what happened before and after calibration, above histograms.

    `p_before`, `p_after` and `y` [n] are of the test split, in groups [n]; `event` says what an answer is where y is 1.
    Bars are Wilson's 95 % intervals of a bin's share; on the diagonal a probability means what it says.

    Raises:
        EvaluationError: a probability missing or outside 0..1, lengths that differ, or fewer than two examples.
    """
    figure, panels = _figure(4, columns=2, width=7.4, height=4.7, heights=(4, 1))
    sides = (("Before calibration", ORANGE, np.asarray(p_before)), ("After calibration", BLUE, np.asarray(p_after)))
    for (title, colour, p), axes, below in zip(sides, panels[:2], panels[2:], strict=True):
        error = calibration_error(p, y, groups)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        _reliability_points(axes, reliability_bins(p, y), colour)
        interval = f"{100 * error.level:g} % {error.low:.3f} to {error.high:.3f}"
        axes.set_title(f"{title}\ncalibration error {error.estimate:.3f} ({interval})", fontsize=9)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel=f"share of {event} answers")
        below.hist(p, bins=20, range=(0, 1), color=colour, alpha=0.75)
        below.set(xlim=(-0.02, 1.02), xlabel="probability claimed", ylabel="examples")
    return _png(figure)


def gains(rows: Sequence[Row]) -> bytes:
    """Draw a heat map of gains in points: a line for each region, a column for what it is compared with.

    Bold are those whose interval excludes zero, and over the base model whose adjusted p is small as well.

    Raises:
        EvaluationError: no rows.
    """
    if not rows:
        raise EvaluationError("there are no gains to draw: evaluate a region first")
    compared = ("base model", "one answer to everything")
    points = 100 * np.array([[row.difference.estimate, row.over_baseline.estimate] for row in rows])
    sure = [(row.outcome != "inconclusive", not row.over_baseline.low <= 0 <= row.over_baseline.high) for row in rows]
    figure, (axes,) = _figure(1, width=6.4, height=1.2 + 0.32 * len(rows))
    limit = max(10.0, float(np.abs(points).max()))
    axes.imshow(points, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (line, column), value in np.ndenumerate(points):
        weight = "bold" if sure[line][column] else "normal"
        shade = "white" if abs(value) > 0.6 * limit else INK
        axes.text(column, line, f"{value:+.1f}", ha="center", va="center", color=shade, fontweight=weight)
    axes.set_xticks(range(len(compared)), [f"over {what}" for what in compared])
    axes.set_yticks(range(len(rows)), [f"{_shortened(row.task)}  {_shortened(row.region)}" for row in rows])
    axes.set_title("Gain in points of right answers (bold: significant)", fontsize=10)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return _png(figure)


def histogram(values: Sequence[float] | np.ndarray, title: str, xlabel: str) -> bytes:
    """Draw how many of the values [n] fall where, with the median marked.

    Raises:
        EvaluationError: no values.
    """
    if len(values) == 0:
        raise EvaluationError(f"the histogram {title!r} needs at least 1 value, got 0")
    figure, (axes,) = _figure(1, width=5.6, height=2.8)
    numbers = np.asarray(values, dtype=float)
    # Counted by numpy: matplotlib takes hundreds of bytes for each value it is given.
    axes.stairs(*np.histogram(numbers, _edges(numbers)), fill=True, color=BLUE, alpha=0.85)
    middle = float(np.median(values))
    axes.axvline(middle, color=ORANGE, linewidth=1.5)
    axes.set(title=f"{title}: median {in_words(middle)}", xlabel=xlabel, ylabel="examples")
    axes.locator_params(axis="y", integer=True)
    return _png(figure)


def split_by_label(counts: pd.DataFrame) -> bytes:
    """Draw the number of examples by split (the index of `counts`) and label (its columns) as stacked bars.

    Raises:
        EvaluationError: no splits or no labels.
    """
    numbers = counts.to_numpy(dtype=float)
    if numbers.size == 0:
        raise EvaluationError(f"the chart of splits needs at least 1 split and 1 label, got {numbers.shape}")
    figure, (axes,) = _figure(1, width=5.6, height=0.9 + 0.45 * len(counts))
    left = np.zeros(len(counts))
    places = np.arange(len(counts))
    for label, number, colour in zip(counts.columns, numbers.T, _colours(numbers.shape[1]), strict=True):
        bars = axes.barh(places, number, left=left, color=colour, label=str(label), height=0.68)
        shown = [f"{value:.0f}" if value > 0.06 * numbers.sum(axis=1).max() else "" for value in number]
        axes.bar_label(bars, labels=shown, label_type="center", color="white")
        left += number
    axes.set_yticks(places, [str(split) for split in counts.index])
    axes.invert_yaxis()
    axes.set(xlabel="examples")
    axes.grid(visible=False, axis="y")
    if len(counts.columns) > 1:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return _png(figure)


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    few = len(counts) <= FEW_LABELS
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = f"{count}\n{100 * share:.0f} %" if few else str(count)
        colour = "white" if share > 0.55 else INK
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=12 if few else 7)


def _shortened(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 1]}…"


def _spans_decades(true: np.ndarray, least: float) -> bool:
    """Whether a logarithmic axis suits the true numbers and can show all others, of which `least` is the smallest."""
    return least > 0 and true.max() > 30 * true.min()


def _write_out(*logarithmic: Axis) -> None:
    """Label logarithmic axes that are drawn with numbers, not with powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis in logarithmic:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: in_words(value)))
        axis.set_minor_locator(NullLocator())


def _curve(axes: Axes, step: np.ndarray, values: np.ndarray, label: str, colour: str) -> None:
    if len(values) < MANY_STEPS:
        axes.plot(step, values, color=colour, marker="o", markersize=3.5, label=label)
        return
    width = len(values) // 15 * 2 + 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, width // 2, mode="reflect"), width)
    axes.fill_between(step, *np.percentile(windows, [10, 90], axis=1), color=colour, alpha=0.18, linewidth=0)
    axes.plot(step, windows.mean(axis=1), color=colour, linewidth=2, label=f"{label} (mean and middle 80 %)")


def _reliability_points(axes: Axes, bins: list[ReliabilityBin], colour: str) -> None:
    intervals = [wilson(b.n_positive, b.n) for b in bins]
    shares = [i.estimate for i in intervals]
    reach = [[i.estimate - i.low for i in intervals], [i.high - i.estimate for i in intervals]]
    claimed = [b.mean_probability for b in bins]
    axes.errorbar(claimed, shares, yerr=reach, color=colour, marker="o", markersize=5, linewidth=1.5, elinewidth=1)


def _edges(values: np.ndarray) -> list[float]:
    """Return the edges of about 30 bins; whole values get bins that hold equally many whole numbers each."""
    if np.any(values != np.round(values)):
        return np.histogram_bin_edges(values, bins=30).tolist()
    width = int(np.ptp(values)) // 30 + 1
    return (np.arange(values.min(), values.max() + width + 1, width) - 0.5).tolist()


def _colours(n: int) -> list[str]:
    palette = [ORANGE, BLUE, GREEN, PINK, GREY]
    return [palette[k % len(palette)] for k in range(n)]


def _figure(
    n: int, *, width: float, height: float, columns: int | None = None, heights: tuple[int, ...] = (1,)
) -> tuple[Figure, list[Axes]]:
    """Return a white figure (inches) with n panels in the house style, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white", layout="constrained")
    columns = columns or n
    grid = figure.subplots(n // columns, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    panels = list(grid.flat)
    for axes in panels:
        axes.set_axisbelow(True)
        axes.grid(color="#E6E9ED", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#B4BCC6")
        axes.tick_params(color="#B4BCC6", labelcolor=INK)
        axes.title.set_color(INK)
    return figure, panels


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"optimize": True})
    return buffer.getvalue()
