"""How far reviewers agree, in the chosen region and in all regions of its task."""

from __future__ import annotations

from html import escape

import gradio as gr

from finetune_assets.feedback.store.agreement import Agreement, Estimate, agreement
from finetune_assets.feedback.store.database import FeedbackDatabase

_HEADS = ("", "Judged by both", "Say the same", "Cohen's kappa")
_EXPLAINED = (
    "1 is full agreement, 0 what chance alone would make; in brackets the 95 % interval. "
    "A rejection counts as an answer of its own, except among numbers. Few examples make a wide interval: "
    "the queues “Audit” and “Second opinion” bring more that several people have judged."
)


def add_agreement(db: FeedbackDatabase, place: gr.Dropdown, tab: gr.Tab) -> None:
    """Add the tables to the open tab; they follow the chosen place, and are made anew when the tab is opened."""
    view = gr.HTML(apply_default_css=False)

    def look(chosen: str | None) -> str:
        if not chosen:
            return "No region has been offered to reviewers yet."
        task, _, region = chosen.partition("/")
        here, everywhere = agreement(db, task, region), agreement(db, task)
        return (
            f'<div class="agreement">{_section(chosen, here)}{_section(f"All regions of {task}", everywhere)}'
            f"<p>{_EXPLAINED}</p></div>"
        )

    for change in (place.change, tab.select):
        change(look, place, view, api_visibility="private", trigger_mode="always_last")


def _section(name: str, found: Agreement) -> str:
    if not found.n:
        return f"<h3>{escape(name)}</h3><p>No example was judged by two reviewers yet.</p>"
    cells = (
        (" and ".join(pair.reviewers), f"{pair.n:,}", f"{pair.share * 100:.0f} %", _estimate(pair.kappa))
        for pair in found.pairs
    )
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    return (
        f"<h3>{escape(name)}</h3><p>Krippendorff's alpha <b>{_estimate(found.alpha)}</b> "
        f"over {found.n:,} examples that at least two have judged.</p>"
        f'<table class="side-by-side"><tr>{heads}</tr>{rows}</table>'
    )


def _estimate(found: Estimate | None) -> str:
    return "not defined yet" if found is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
