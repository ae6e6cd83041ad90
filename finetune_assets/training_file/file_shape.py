"""Whether a file is JSON Lines at all: what is wrong with all of it is one finding, with the way to mend it."""

from __future__ import annotations

import codecs
import io
import json
from typing import Any

import orjson

from finetune_assets.dataset.json_lines import BYTE_ORDER_MARK
from finetune_assets.training_file.findings import Problem

_MAX_WHOLE = 128 * 2**20
"""Bytes that are read to see whether they are one JSON value."""
_CHUNK = 1 << 20
_MAGIC = {
    b"\x1f\x8b": "a gzip archive; unpack it with gunzip",
    b"PK\x03\x04": "a zip archive, or a table of Excel; unpack it, or save it as JSON Lines",
    b"(\xb5/\xfd": "a zstd archive; unpack it with unzstd",
    b"BZh": "a bzip2 archive; unpack it with bunzip2",
    b"\xfd7zXZ": "an xz archive; unpack it with unxz",
    b"PAR1": 'a Parquet file; write it with pandas: frame.to_json("train.jsonl", orient="records", lines=True)',
}
_ENCODINGS = {  # The marks of UTF-32 begin with those of UTF-16.
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_CONVERT = (
    "write one object a line: python -c 'import json,sys; [print(json.dumps(x)) for x in json.load(sys.stdin)]' "
    "< file.json > file.jsonl, or jq -c .[] file.json > file.jsonl"
)
_FLATTEN = "write each on one line: jq -c . file.json > file.jsonl"


def file_problem(file: io.BufferedReader[Any]) -> tuple[Problem, int] | None:
    """Look at the beginning of a file, and at all of it where that is one JSON list.

    Returns:
        What is wrong with the whole file, which has then been read to its end, and how many lines it has. None where
        it is to be looked at line by line, of which nothing has been read.
    """
    begin = file.peek(_CHUNK)
    for magic, told in _MAGIC.items():
        if begin.startswith(magic):
            return ("wrong_format", f"the file is {told}"), _count_lines(file)
    if encoding := _wide_encoding(begin):
        told = f"the file is in {encoding}; save it as UTF-8 (iconv -f {encoding} -t UTF-8, or the editor's Save as)"
        return ("invalid_encoding", told), _count_wide_lines(file, encoding, begin)
    text = begin.removeprefix(BYTE_ORDER_MARK).lstrip()
    if text.startswith(b"[") and _begins_list(text):
        return _list_problem(file)
    if text.startswith(b"{") and (told := _over_lines(text)):
        return ("wrong_format", told), _count_lines(file)
    return None


def _wide_encoding(begin: bytes) -> str | None:
    """UTF-16 or UTF-32, where a file says so, or has a zero in every second byte."""
    for mark, encoding in _ENCODINGS.items():
        if begin.startswith(mark):
            return encoding
    if begin[:4].count(0) == 3:
        return "UTF-32LE" if begin[0] else "UTF-32BE"
    if begin[:2].count(0) == begin[2:4].count(0) == 1:
        return "UTF-16LE" if begin[0] else "UTF-16BE"
    return None


def _count_wide_lines(file: io.BufferedReader[Any], encoding: str, begin: bytes) -> int:
    """Lines of a text in wide letters, whose line breaks have a zero beside them."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    n, last = 0, ""
    while data := file.read(_CHUNK):
        text = decoder.decode(data)
        n, last = n + text.count("\n"), text[-1:] or last
    return n + (last not in ("", "\n")) if begin else 0


def _count_lines(file: io.BufferedReader[Any]) -> int:
    n, last = 0, b""
    while data := file.read(_CHUNK):
        n, last = n + data.count(b"\n"), data[-1:]
    return n + (last not in (b"", b"\n"))


def _begins_list(text: bytes) -> bool:
    """Whether a text that begins with a bracket is one list of examples, rather than a line that should hold one."""
    first, *others = text.split(b"\n", 6)
    try:
        listed = orjson.loads(first)
    except orjson.JSONDecodeError:
        # Lines that are objects by themselves: the bracket before them is a mistake of the first line alone.
        return not any(map(_is_object, others[:5]))
    return type(listed) is list and any(type(item) is dict for item in listed) and not any(map(_is_object, others))


def _is_object(line: bytes) -> bool:
    try:
        return type(orjson.loads(line)) is dict
    except orjson.JSONDecodeError:
        return False


def _list_problem(file: io.BufferedReader[Any]) -> tuple[Problem, int]:
    data = file.read(_MAX_WHOLE)
    n_lines = data.count(b"\n") + (not data.endswith(b"\n")) + (_count_lines(file) if file.peek(1) else 0)
    told = "the file is one JSON array, not JSON Lines"
    try:
        listed = orjson.loads(data.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        if len(data) < _MAX_WHOLE:
            told += (
                f", and breaks off at line {error.lineno}, column {error.colno} ({error.msg}), which is to mend first"
            )
    else:
        told += f" (of {len(listed):,} items)"
    return ("wrong_format", f"{told}; {_CONVERT}"), n_lines


def _over_lines(text: bytes) -> str | None:
    """Say that objects stand on several lines each, where the first one does."""
    first = text.partition(b"\n")[0]
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError as error:
        if error.pos < len(first.decode("utf-8", "replace").rstrip()):
            return None
    else:
        return None
    written = text.decode("utf-8", "ignore")
    try:
        value, end = json.JSONDecoder().raw_decode(written)
    except (ValueError, RecursionError):
        return None
    listed = next((key for key, held in value.items() if _is_list_of_objects(held)), None)
    if not written[end:].strip() and listed not in (None, "messages"):
        told = f"the file is one JSON object with the examples under {listed!r}, not JSON Lines"
        return f"{told}; write one example a line: jq -c '.{listed}[]' file.json > file.jsonl"
    return f"the file's objects stand on several lines each, as pretty-printed; {_FLATTEN}"


def _is_list_of_objects(value: Any) -> bool:
    return type(value) is list and bool(value) and all(type(item) is dict for item in value)
