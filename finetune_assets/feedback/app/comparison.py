"""The table that puts base model, fine-tuned model and people side by side, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from finetune_assets.feedback.app.review_api import image_url
from finetune_assets.feedback.store.browse import Row, Wanted, browse
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.offers import ReviewItem

ROWS = 25
_THUMBNAIL = 144
"""Side in pixels, twice what it takes on the page, for screens with finer pixels."""
_SHOWN = [
    ("All", "all"),
    ("Model wrong", "model_wrong"),
    ("Disagreement", "disagreement"),
    ("Reviewed", "reviewed"),
    ("Undecided", "undecided"),
]
_WORDS: dict[str | None, str] = {
    "reject": "not usable",
    "conflict": "they disagree",
    "waits": "waits for a second blind judgement",
}
_HEADS = ("", "Question", "Base", "Fine-tuned", "Label", "Reviewers")


def add_table(db: FeedbackDatabase, place: gr.Dropdown, tab: gr.Tab) -> None:
    """Add filters, paging and table to the open tab; they follow the chosen place."""
    with gr.Row(elem_id="filters"):
        show = gr.Radio(_SHOWN, value="all", label="Show", show_label=False, container=False)
        text = gr.Textbox(
            "", label="Search", placeholder="Search", show_label=False, container=False, max_lines=1, elem_id="search"
        )
        where = gr.HTML(elem_id="where")
        back, on = (gr.Button(arrow, size="sm", min_width=44) for arrow in "←→")
    table = gr.HTML(apply_default_css=False)
    first = gr.State(0)

    def turn(by: int, chosen: str | None, wanted: Wanted, words: str, start: int) -> tuple[Any, ...]:
        if not chosen:
            return "No region has been offered to reviewers yet.", "", 0, *map(_enabled, (False, False))
        start = max(0, start + by) if by else 0
        task, _, region = chosen.partition("/")
        found = browse(db, task, region, wanted, words.strip(), start, ROWS)
        last = start + len(found.rows)
        shown = f"{start + 1:,} to {last:,} of {found.total:,}" if found.rows else "none"
        return _table(found.rows), shown, start, _enabled(start > 0), _enabled(last < found.total)

    given, made = [place, show, text, first], [table, where, first, back, on]
    for change in (place.change, show.change, text.change, tab.select):
        change(partial(turn, 0), given, made, api_visibility="private", trigger_mode="always_last")
    for button, by in ((back, -ROWS), (on, ROWS)):
        button.click(partial(turn, by), given, made, api_visibility="private")


def _enabled(enabled: bool) -> gr.Button:
    return gr.Button(interactive=enabled)


def _table(rows: Sequence[Row]) -> str:
    """Return the table as HTML; everything that comes from data is escaped."""
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    body = "".join(f"<tr>{_cells_of(row)}</tr>" for row in rows)
    return f'<table class="side-by-side cards"><tr>{heads}</tr>{body}</table>'


def _cells_of(row: Row) -> str:
    return "".join(f'<td data-head="{head}">{cell}</td>' for head, cell in zip(_HEADS, _cells(row), strict=True))


def _cells(row: Row) -> tuple[str, ...]:
    item, said = row.item, row.model_answer
    base, own = (said.base_answer, said.answer) if said else (None, None)
    certain = f"right with {said.probability * 100:.0f} %" if said and said.probability is not None else ""
    return (
        _picture(item),
        f"{escape(item.question)}<small>{escape(item.example_id)} · {escape(item.split)}</small>",
        _judged(base, row),
        _judged(own, row) + f"<small>{certain}</small>",
        escape(item.label or "") + f"<small>{escape(item.doubt or '')}</small>",
        _WORDS.get(row.verdict, escape(row.answer or "")) + f"<small>{escape(', '.join(row.reviewers))}</small>",
    )


def _picture(item: ReviewItem) -> str:
    full, small = image_url(item), image_url(item, _THUMBNAIL)
    if full is None or small is None:
        return ""
    return f'<a href="{escape(full)}" target="_blank"><img loading="lazy" alt="" src="{escape(small)}"></a>'


def _judged(answer: str | None, row: Row) -> str:
    """Return a model's answer, marked as right or wrong where it is one of several words and the truth is known."""
    truth = row.item.label if row.verdict in (None, "conflict", "waits") else row.answer
    known = answer is not None and truth is not None and row.item.options
    state = ("right" if answer == truth else "wrong") if known else ""
    return f'<span class="{state}">{escape(answer or "")}</span>'
