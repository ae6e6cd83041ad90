"""The page around the review: Gradio's tabs, the choice of a region, and the tables.

Gradio draws the page, signs people in and runs the tables' filters. The review itself is a piece of HTML with scripts
of its own (`page/`), because a key must bring the next example at once, and an answer must outlive a closed tab.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr
from gradio.themes import Default

from finetune_assets.feedback.app.agreement_view import add_agreement
from finetune_assets.feedback.app.comparison import add_table
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.offers import offered_regions

_PAGE = Path(__file__).parent / "page"
CSS = (_PAGE / "review.css").read_text("utf-8")
HEAD = """<meta name="color-scheme" content="light dark">
<script>
// Where somebody left off, unless the address says where to go.
if (!location.search.includes("place=")) {
  const kept = localStorage.getItem("finetune-assets/place");
  if (kept) history.replaceState(null, "", location.pathname + kept);
}
</script>"""
THEME = Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
_START = "import('/page/review.js').then((review) => review.start(element.querySelector('#review')))"
_GO = """(place) => {
  document.documentElement.dataset.place = place ?? "";
  window.dispatchEvent(new Event("placechange"));
}"""


def make_page(db: FeedbackDatabase) -> gr.Blocks:
    """Make Gradio's page over a database."""

    def arrive(request: gr.Request) -> tuple[gr.Dropdown, str]:
        choices = [(f"{o.task} / {o.region} ({o.n_items:,})", f"{o.task}/{o.region}") for o in offered_regions(db)]
        places = [place for _, place in choices]
        asked = request.query_params.get("place")
        chosen = asked if asked in places else next(iter(places), None)
        return gr.Dropdown(choices, value=chosen), _account(request.username)

    with gr.Blocks(title="Feedback", analytics_enabled=False, fill_width=True) as page:
        with gr.Row(elem_id="top"):
            place = gr.Dropdown([], label="Task / region", show_label=False, container=False, scale=3, elem_id="place")
            account = gr.HTML(elem_id="account", padding=False)
        with gr.Tabs():
            with gr.Tab("Review", elem_id="review-tab"):
                gr.HTML((_PAGE / "review.html").read_text("utf-8"), js_on_load=_START, apply_default_css=False)
            with gr.Tab("Side by side") as tab:
                add_table(db, place, tab)
            with gr.Tab("Agreement") as tab:
                add_agreement(db, place, tab)
        page.load(arrive, None, [place, account], api_visibility="private")
        place.change(None, place, None, js=_GO)
    return page


def _account(name: str | None) -> str:
    return f'<span>{escape(name or "")}</span><a href="/logout">Sign out</a>'
