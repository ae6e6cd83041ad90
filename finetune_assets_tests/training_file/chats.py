"""Builders of examples in the chat format and of files that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from finetune_assets.dataset.images import data_url
from finetune_assets.training_file.validation import FileReport, validate
from finetune_assets_tests.dataset.pictures import picture


def user(content: Any = "Is it warm?", **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


def assistant(content: Any = "Yes", **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    """An example of these messages, or of a question and its answer."""
    return {"messages": list(messages) or [user(), assistant()], **fields}


def image(url: str | None = None, **fields: Any) -> dict[str, Any]:
    """An image part; without an address, a small RGB PNG inlined."""
    return {"type": "image_url", "image_url": {"url": url or data_url(picture(), "image/png"), **fields}}


def text(words: str = "Is it warm?") -> dict[str, Any]:
    return {"type": "text", "text": words}


def good(n: int, start: int = 0) -> list[dict[str, Any]]:
    """`n` different examples without any finding."""
    return [chat(user(f"Is {start + k} even?"), assistant("No" if (start + k) % 2 else "Yes")) for k in range(n)]


def write(path: Path, *lines: dict[str, Any] | bytes) -> Path:
    """A JSONL file of objects and raw lines."""
    path.write_bytes(b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines))
    return path


def checked(folder: Path, *lines: dict[str, Any] | bytes) -> FileReport:
    """The report on a file that begins with ten good examples, so that these lines begin at 11."""
    [report] = validate(write(folder / "train.jsonl", *good(10), *lines)).files
    return report


def codes(report: FileReport) -> list[tuple[int | None, str]]:
    """Line and code of all findings, errors first."""
    return [(finding.line, finding.code) for finding in (*report.errors, *report.warnings)]
