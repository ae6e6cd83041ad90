"""The findings of one file as HTML: by code, the commonest first, each with its count, first lines and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from finetune_assets.training_file.findings import FileReport, Finding

SHOWN_ROWS = 3
"""Lines of one code that are seen at once."""
MAX_ROWS = 100
"""Lines of one code on the page; the others are in the JSON report."""
_REPEATS = ("duplicate_example", "contradictory_answers", "identical_outputs")
_LEAKS = ("leak",)
_ELSEWHERE = (*_REPEATS, *_LEAKS, "more_findings")
"""Codes that have a section of their own, and the one that tells what the counts on the page tell already."""
_WORTH_LINKS = 4
"""Codes in a section from which on it begins with links to them."""


def findings_section(file: FileReport, place: str) -> str:
    """Render all findings of a file; empty where there are none.

    Args:
        file: The file's report.
        place: A name for the file that is unique on the page, for links within it.
    """
    sections = (
        ("Errors", "bad", [each for each in file.errors if each.code not in _ELSEWHERE]),
        ("Shared with the training file", "bad", [each for each in file.errors if each.code in _LEAKS]),
        ("Warnings", "warn", [each for each in file.warnings if each.code not in _ELSEWHERE]),
        ("Duplicates and contradictions", "warn", [each for each in file.warnings if each.code in _REPEATS]),
    )
    counts = file.error_counts | file.warning_counts
    return "\n".join(_section(title, tone, findings, counts, place) for title, tone, findings in sections if findings)


def _section(title: str, tone: str, findings: list[Finding], counts: dict[str, int], place: str) -> str:
    ordered = sorted(findings, key=lambda finding: finding.code)
    by_code = {code: list(rows) for code, rows in groupby(ordered, key=lambda finding: finding.code)}
    # What is wrong with the whole file comes first, then what is most common.
    codes = sorted(by_code, key=lambda code: (by_code[code][0].line is not None, -counts[code]))
    links = " ".join(f'<a class="tag {tone}" href="#{place}-{code}">{counts[code]:,} {code}</a>' for code in codes)
    overview = f"<p>{links}</p>\n" if len(codes) >= _WORTH_LINKS else ""
    groups = "".join(_group(by_code[code], counts[code], place, tone) for code in codes)
    return f"<h3>{title}</h3>\n{overview}{groups}"


def _group(findings: list[Finding], count: int, place: str, tone: str) -> str:
    code, hidden, listed = findings[0].code, findings[SHOWN_ROWS:MAX_ROWS], len(findings[MAX_ROWS:])
    unseen = count - len(findings) + listed
    more = f"<details><summary>{len(hidden)} more</summary>{_table(hidden)}</details>" if hidden else ""
    which = "them" if listed == unseen else f"the first {listed:,} of them"
    rest = f'<p class="rest">{unseen:,} more; the JSON report lists {which}.</p>' if unseen else ""
    return f"""<section class="finding" id="{place}-{code}">
<h4><span class="tag {tone}">{count:,}</span> <code>{code}</code></h4>
{_table(findings[:SHOWN_ROWS])}{more}{rest}
</section>"""


def _table(findings: list[Finding]) -> str:
    return f"<table>{''.join(_rows(findings))}</table>"


def _rows(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        line = "whole file" if finding.line is None else f"line {finding.line:,}"
        yield f"<tr><td>{line}</td><td>{escape(finding.message)}</td></tr>"
