"""How a person is shown a training and its money: losses, checkpoints, prices, and fine-tuning against retrieval."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import dagster as dg
import numpy as np
import pandas as pd

from finetune_assets.evaluation import charts
from finetune_assets.evaluation.retrieval_costs import Comparison
from finetune_assets.pipeline.shown.views import picture, table
from finetune_assets.provider.losses import Checkpoint
from finetune_assets.task import Task
from finetune_assets.task.costs import Prices

N_STEPS = 20
"""Rows of the table of steps."""


def curves(steps: pd.DataFrame) -> dict[str, dg.MarkdownMetadataValue]:
    """Show what a job's training reported, losses or rewards, and a table of its steps with the first and the last."""
    drawn = {
        name: picture(draw(steps), words)
        for name, words, columns, draw in (
            ("loss_curve", "loss curve", charts.LOSSES, charts.loss_curve),
            ("reward_curve", "reward curve", charts.REWARDS, charts.reward_curve),
        )
        if np.isfinite(steps[list(columns)].to_numpy(dtype=float)).any()
    }
    if not drawn:
        return {"loss_curve": dg.MetadataValue.md("The provider reported no losses.")}
    # Most steps lack what makes the others worth a look: what was measured on the whole validation file.
    measured = np.flatnonzero(steps[["full_valid_loss", "valid_reward"]].notna().any(axis="columns"))[-N_STEPS // 2 :]
    regular = np.linspace(0, len(steps) - 1, N_STEPS - len(measured)).round().astype(int)
    shown = steps.iloc[np.union1d(regular, measured)].dropna(axis="columns", how="all")
    note = "" if len(shown) == len(steps) else f"\n\n{len(shown)} of {len(steps):,} steps; the Parquet file has all."
    return {**drawn, "steps": dg.MetadataValue.md(f"{table(shown, rows=N_STEPS).value}{note}")}


def checkpoints(found: Sequence[Checkpoint] | None, taken: int | None) -> dg.MarkdownMetadataValue:
    """Show the models as they were at earlier steps, and how to take one."""
    if found is None:
        return dg.MetadataValue.md("This provider offers no checkpoints: the model is the one at the end of training.")
    if not found:
        return dg.MetadataValue.md("The job left no checkpoints: the model is the one at the end of training.")
    rows = [
        {
            "step": checkpoint.step,
            "checkpoint": checkpoint.id,
            "training loss": checkpoint.train_loss,
            "validation loss": checkpoint.valid_loss,
            "model": checkpoint.model,
            "": "taken" if checkpoint.step == taken else "",
        }
        for checkpoint in found
    ]
    how = "`checkpoint_step` in the run's config takes an earlier one; without it the model is the one at the end."
    return dg.MetadataValue.md(f"{table(pd.DataFrame(rows)).value}\n\n{how}")


def prices(of: Prices) -> dg.MarkdownMetadataValue:
    """Show what the provider asks for one million tokens, and since when that is known."""
    asked: dict[str, float | None] = {"training": of.training}
    for model, tokens in (("base model", of.base), ("fine-tuned model", of.fine_tuned)):
        asked |= {
            f"{model}, input": tokens and tokens.input,
            f"{model}, cached input": tokens and tokens.cached_input,
            f"{model}, output": tokens and tokens.output,
        }
    rows = [{"USD for 1 million tokens of": name, "": "unknown" if usd is None else usd} for name, usd in asked.items()]
    where = f"From {of.source}{', ' * bool(of.as_of)}{of.as_of}." if of.source else ""
    if all(usd is None for usd in asked.values()):
        where = "No price of this model at this provider is known; `prices` in the task's YAML states them."
    hosting = f" Hosting: {of.hosting_usd_per_hour:g} USD an hour." if of.hosting_usd_per_hour else ""
    return dg.MetadataValue.md(f"{table(pd.DataFrame(rows)).value}\n\n{where}{hosting}")


def fine_tuning_or_retrieval(task: Task, compared: Comparison | None) -> dict[str, dg.MarkdownMetadataValue]:
    """Show which way is cheaper, and the costs of both over the months; nothing where the task does not ask."""
    if task.costs is None:
        return {}
    if compared is None:
        unknown = f"The prices of {task.base_model} at {task.provider} are not known; `prices` in the YAML states them."
        return {"fine_tuning_or_retrieval": dg.MetadataValue.md(unknown)}
    drawn = picture(charts.costs(compared), "costs by month")
    figures = pd.DataFrame(_comparison_rows(compared), columns=["", "fine-tuning", "retrieval"])
    shown = f"{compared.reason}\n\n{table(figures).value}\n\n{drawn.value}"
    return {"fine_tuning_or_retrieval": dg.MetadataValue.md(shown)}


def comparison_section(of: Comparison) -> str:
    """Show the same as HTML, for a page of its own."""
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in _comparison_rows(of))
    drawn = base64.b64encode(charts.costs(of)).decode()
    head = "<tr><th></th><th>Fine-tuning</th><th>Retrieval</th></tr>"
    return (
        f"<p>{escape(of.reason)}</p>"
        f'<div class="table"><table>{head}{rows}</table></div>'
        f'<p><img src="data:image/png;base64,{drawn}" alt="costs by month"></p>'
    )


def _comparison_rows(of: Comparison) -> list[list[str]]:
    """Return the figures of both ways, in words."""
    ways = (of.fine_tuning, of.retrieval)
    months = sorted({1, max(1, of.costs.horizon_months // 2), of.costs.horizon_months})
    rows = [
        ["USD for 1,000 requests", *(f"{1000 * way.usd_per_request:,.4f}" for way in ways)],
        ["USD at the beginning", *(f"{way.usd[0]:,.2f}" for way in ways)],
        *([f"USD after {n} month{'s' * (n > 1)}", *(f"{way.usd[n]:,.2f}" for way in ways)] for n in months),
    ]
    if of.break_even_requests is not None:
        rows.append(["Break-even, requests a month", f"{of.break_even_requests:,.0f}", ""])
    if of.break_even_gb is not None:
        rows.append(["Break-even, GB stored", f"{of.break_even_gb:,.2f}", ""])
    return rows
