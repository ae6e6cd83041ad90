"""A validation report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from finetune_assets.training_file.findings import FileReport, Report
from finetune_assets.training_file.findings_page import findings_section
from finetune_assets.training_file.messages import ImagePart, Message, read_messages

_MAX_BARS = 12
_MAX_LABEL = 60
_INLINED = re.compile(r"data:image/(png|jpe?g|webp);base64,[A-Za-z0-9+/=]+")


def to_html(
    report: Report, preview: list[dict[str, Any]], estimate: str, sections: Mapping[str, str] | None = None
) -> str:
    """Render a report for a person.

    Args:
        report: The verdict on one or two files.
        preview: Lines of the training file to show as conversations, images included.
        estimate: One sentence on cost and duration; empty where there is none.
        sections: Further parts of the page: HTML by title.
    """
    n_errors = sum(sum(file.error_counts.values()) for file in report.files)
    n_warnings = sum(sum(file.warning_counts.values()) for file in report.files)
    verdict, verdict_class = ("ready to upload", "good") if report.ok else ("not ready", "bad")
    counts = f"{_plural(n_errors, 'error')}, {_plural(n_warnings, 'warning')}."
    return _template().substitute(
        title=escape(", ".join(_name(file) for file in report.files)),
        verdict=verdict,
        verdict_class=verdict_class,
        summary=escape(f"{counts} {estimate}".strip()),
        files="\n".join(_file(file, f"file-{number}") for number, file in enumerate(report.files, 1)),
        sections="".join(map(_section, (sections or {}).items())),
        preview=_preview(preview),
    )


@cache
def _template() -> Template:
    return Template(files(__package__ or "").joinpath("report.html").read_text("utf-8"))


def _section(part: tuple[str, str]) -> str:
    title, html = part
    return f'<section class="card"><h2>{escape(title)}</h2>{html}</section>'


def _file(file: FileReport, place: str) -> str:
    mean = file.tokens_total / file.n_examples if file.n_examples else 0
    facts = {
        "Examples": f"{file.n_examples:,} <small>of {_plural(file.n_lines, 'line')}</small>",
        "Tokens": f"{file.tokens_total:,}" + _estimated(file),
        "Tokens, mean": f"{mean:,.0f}",
        "Tokens, longest": f"{file.tokens_max:,}",
        "Images": f"{file.n_images:,}",
        "Size": _megabytes(file.bytes),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    charts = (
        _bars("Answers", file.answers)
        + _bars("Tokens per example", _ranges(file.token_histogram))
        + _bars("Messages per example", _lengths(file.message_histogram))
    )
    return f"""<section class="card">
<h2>{escape(_name(file))}</h2>
<dl>{items}</dl>
<div class="columns">{charts}</div>
{findings_section(file, place) or '<p class="quiet">No findings.</p>'}
<p class="quiet">SHA-256 <code>{file.sha256}</code></p>
</section>"""


def _estimated(file: FileReport) -> str:
    return f" <small>about {file.tool_tokens:,} of them for functions</small>" if file.tool_tokens else ""


def _lengths(counts: Mapping[int, int]) -> dict[str, int]:
    """Name the bars of a count of small numbers, by themselves or, where they are many, in ranges that double."""
    return {f"{value:,}": n for value, n in counts.items()} if len(counts) <= _MAX_BARS else _ranges(counts)


def _ranges(counts: Mapping[int, int]) -> dict[str, int]:
    joined: Counter[int] = Counter()
    for value, n in counts.items():
        joined[1 << value.bit_length() - 1] += n
    return {f"{low:,}\N{EN DASH}{2 * low - 1:,}": n for low, n in joined.items()}


def _bars(title: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    longest, total = max(counts.values()), sum(counts.values())
    rows = "".join(
        f'<span>{escape(_short(label))}</span><div class="bar" style="width:{100 * n / longest:.1f}%"></div>'
        f'<span class="quiet">{n:,} ({"&lt;1%" if n < total / 100 else f"{n / total:.0%}"})</span>'
        for label, n in counts.items()
    )
    return f'<div><h3>{title}</h3><div class="bars">{rows}</div></div>'


def _short(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _preview(examples: list[dict[str, Any]]) -> str:
    if not examples:
        return ""
    chats = "".join(f'<div class="chat">{_chat(example)}</div>' for example in examples)
    return f'<section class="card"><h2>First examples</h2><div class="chats">{chats}</div></section>'


def _chat(example: dict[str, Any]) -> str:
    asked = example.get("input", example)
    written = asked.get("messages") if isinstance(asked, dict) else None
    messages = read_messages("messages", written, []) if isinstance(written, list) else []
    return "".join(map(_message, messages)) or "<em>no messages</em>"


def _message(message: Message) -> str:
    body = "".join(map(escape, message.texts)) + "".join(map(_image, message.images))
    body += "".join(f"<code>{escape(call.name)} {escape(call.arguments)}</code> " for call in message.calls)
    style = message.role if message.role in ("system", "user", "assistant") else "system"
    return f'<div class="message {style}"><small>{escape(message.role or "?")}</small>{body}</div>'


def _image(image: ImagePart) -> str:
    if _INLINED.fullmatch(image.url):
        return f'<img src="{image.url}" alt="image of the example">'
    return f"<code>{escape(image.url[:200])}</code>"


def _name(file: FileReport) -> str:
    return re.split(r"[/\\]", file.path)[-1]


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:,.1f} kB"
