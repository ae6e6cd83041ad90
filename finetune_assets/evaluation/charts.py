"""Pictures for the Dagster UI and the reports: PNGs of at most about 60 kB on white, legible on light and dark pages.

The colours are Okabe and Ito's, told apart by colour-blind readers too. Figures are made without pyplot, so that no
picture is left in a global registry and several threads can draw at once.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.reliability import ReliabilityBin, calibration_error, reliability_bins
from finetune_assets.evaluation.scoring import Confusion
from finetune_assets.evaluation.statistics import wilson

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6B7480"
INK = "#1C2430"
DOTS_PER_INCH = 100
LOSSES = {
    "train_loss": ("training", BLUE),
    "valid_loss": ("validation, one batch", PINK),
    "full_valid_loss": ("validation, all of it", ORANGE),
}
MANY_STEPS = 30
"""From here on a loss is drawn as its moving average and the band that holds 80 % of it."""


def loss_curve(steps: pd.DataFrame) -> bytes:
    """Draw the losses of a job by training step.

    `steps` has the column `step` and any of `train_loss`, `valid_loss` and `full_valid_loss` (mean negative log
    likelihood of a token, in nats), NaN at the steps where one was not measured.

    Raises:
        EvaluationError: no loss in it.
    """
    figure, (axes,) = _figure(1, width=6.4, height=3.4)
    step = steps["step"].to_numpy(dtype=float)
    for name in [name for name in LOSSES if name in steps]:
        loss = steps[name].to_numpy(dtype=float)
        measured = ~np.isnan(loss)
        if measured.any():
            _loss_line(axes, name, step[measured], loss[measured])
    if not axes.lines:
        raise EvaluationError(f"a loss curve needs one of the columns {list(LOSSES)}, got {list(steps.columns)}")
    axes.set(title="Loss during training", xlabel="training step", ylabel="loss (nats per token)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _png(figure)


def confusion_matrix(base: Confusion, fine_tuned: Confusion) -> bytes:
    """Draw the answers of both models side by side: rows are true answers, columns answers given.

    A cell's shade is its share of the row. Unparseable answers have a column if either model gave any.
    """
    n_labels = len(base.labels)
    unparseable = any(row[n_labels] for confusion in (base, fine_tuned) for row in confusion.counts)
    figure, panels = _figure(2, width=7.0, height=3.3)
    for axes, title, confusion in zip(panels, ("Base", "Fine-tuned"), (base, fine_tuned), strict=True):
        counts = np.array(confusion.counts)[:, : n_labels + unparseable]
        answers = [*confusion.labels, "unreadable"][: counts.shape[1]]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            colour = "white" if share > 0.55 else INK
            axes.text(column, row, f"{count}\n{100 * share:.0f} %", ha="center", va="center", color=colour, fontsize=12)
        axes.set(title=title, xlabel="answer given", ylabel="true answer")
        axes.set_xticks(range(len(answers)), answers)
        axes.set_yticks(range(n_labels), confusion.labels)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return _png(figure)


def reliability(p_before: ArrayLike, p_after: ArrayLike, y: ArrayLike) -> bytes:
    """Draw claimed probability against share of positive answers before and after calibration, above histograms.

    `p_before`, `p_after` and `y` [n] are of the test split. Bars are Wilson's 95 % intervals of a bin's share; on the
    diagonal a probability means what it says.

    Raises:
        EvaluationError: a probability missing or outside 0..1, lengths that differ, or fewer than two examples.
    """
    figure, panels = _figure(4, columns=2, width=7.4, height=4.7, heights=(4, 1))
    sides = (("Before calibration", ORANGE, np.asarray(p_before)), ("After calibration", BLUE, np.asarray(p_after)))
    for (title, colour, p), axes, below in zip(sides, panels[:2], panels[2:], strict=True):
        error = calibration_error(p, y)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        _reliability_points(axes, reliability_bins(p, y), colour)
        interval = f"{100 * error.level:g} % {error.low:.3f} to {error.high:.3f}"
        axes.set_title(f"{title}\ncalibration error {error.estimate:.3f} ({interval})", fontsize=9)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share of positive answers")
        below.hist(p, bins=20, range=(0, 1), color=colour, alpha=0.75)
        below.set(xlim=(-0.02, 1.02), xlabel="probability claimed", ylabel="examples")
    return _png(figure)


def histogram(values: Sequence[float], title: str, xlabel: str) -> bytes:
    """Draw how many of the values [n] fall where, with the median marked.

    Raises:
        EvaluationError: no values.
    """
    if len(values) == 0:
        raise EvaluationError(f"the histogram {title!r} needs at least 1 value, got 0")
    figure, (axes,) = _figure(1, width=5.6, height=2.8)
    axes.hist(values, bins=_edges(np.asarray(values, dtype=float)), color=BLUE, alpha=0.85)
    middle = float(np.median(values))
    axes.axvline(middle, color=ORANGE, linewidth=1.5)
    axes.set(title=f"{title}: median {middle:.3g}", xlabel=xlabel, ylabel="examples")
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
        shown = [f"{value:.0f}" if value > 0.04 * numbers.sum(axis=1).max() else "" for value in number]
        axes.bar_label(bars, labels=shown, label_type="center", color="white")
        left += number
    axes.set_yticks(places, [str(split) for split in counts.index])
    axes.invert_yaxis()
    axes.set(xlabel="examples")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return _png(figure)


def _loss_line(axes: Axes, name: str, step: np.ndarray, loss: np.ndarray) -> None:
    label, colour = LOSSES[name]
    if len(loss) < MANY_STEPS:
        axes.plot(step, loss, color=colour, marker="o", markersize=3.5, label=label)
        return
    width = len(loss) // 15 * 2 + 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(loss, width // 2, mode="reflect"), width)
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
