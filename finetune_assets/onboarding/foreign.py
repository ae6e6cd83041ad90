"""Files that people have and no source reads: what they are, and how they become one that is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_AS_CHAT = 'write each as {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}'
_RECORDS = {
    ("conversations",): f"conversations in the ShareGPT format; {_AS_CHAT}",
    ("contents",): f"conversations in Gemini's format; {_AS_CHAT}",
    ("custom_id", "body"): "requests of a batch, which have no right answers; give the file that has them",
    ("input", "preferred_output"): "pairs of a better and a worse answer (DPO); give the data with the right answers",
    ("chosen", "rejected"): "pairs of a better and a worse answer; give the data with the right answers",
    ("shapes", "imagePath"): "what LabelMe drew on one image; export the folder as COCO or Pascal VOC, which are read",
    ("label", "points", "shape_type"): "what LabelMe drew on one image; export the folder as COCO or Pascal VOC, which "
    "are read",
}
"""Files of records that no table of questions and answers is, by keys that such records have."""
_LOOKED_AT = 4096
"""Bytes of a file whose kind is looked for."""


def records_told(record: Mapping[str, Any]) -> str | None:
    """Say what a file of such records is, and what to do; None where it may be a table."""
    return next((words for keys, words in _RECORDS.items() if record.keys() >= set(keys)), None)


def file_told(path: Path) -> str | None:
    """Say what a file with an ending that no source reads is, and what to do; None where nobody knows."""
    if path.suffix.lower() in _ARCHIVES:
        return "it is an archive; unpack it into a folder, and give that to `finetune-assets init`"
    with path.open("rb") as file:
        begins = file.read(_LOOKED_AT)
    if path.suffix.lower() == ".xml" and b"<annotations" in begins:
        return "it is an export of CVAT; export it from there as COCO, Pascal VOC or YOLO, which are read"
    if path.suffix.lower() == ".xml" and b"<annotation" in begins:
        return "it is of one image in Pascal VOC; give the folder that has the folder Annotations"
    if begins.startswith(b"__label__"):
        return (
            "it is of fastText; write it as a table with the columns label and text: "
            rf"sed -E -e '1i label\ttext' -e 's/^__label__(\S+) /\1\t/' {path.name} > {path.stem}.tsv"
        )
    return None


def calls_told(messages: Sequence[Any]) -> str | None:
    """Say what to write where what a chat's assistant does is to call; None where it says something."""
    last = messages[-1] if messages and isinstance(messages[-1], dict) else {}
    calls = last.get("tool_calls")
    if not isinstance(calls, list) or not calls or last.get("content"):
        return None
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    names = dict.fromkeys(str(one.get("name")) for one in functions if isinstance(one, dict))
    tools = ", ".join(f"{{name: {name}}}" for name in names)
    return (
        "its answers are calls of tools, which have to be described: write the task by hand, with "
        f"`source: {{kind: chat_jsonl, ...}}` and `answer: {{kind: call, tools: [{tools}]}}`, a description and "
        "parameters for each of them"
    )


def several_told(files: Iterable[Path], folder: Path) -> str | None:
    """Say what to do about a folder of several COCO files; None of any other."""
    found = [str(file.relative_to(folder)) for file in files]
    if len(found) < 2 or not all(name.endswith(".coco.json") for name in found):
        return None
    return f"holds {len(found)} COCO files ({', '.join(found[:4])}); a task reads one of them: give that, or join them"
