"""A prompt's lines of JSON, rendered a column at a time: what all rows share is encoded once, not once a row.

What is said around the question comes from `chat_format.to_messages`, as everywhere else: it is asked once, with a
character that the prompt itself does not hold in each place that differs from row to row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute

from finetune_assets.task import Prompt
from finetune_assets.training_file.answer_grader import FIELD
from finetune_assets.training_file.chat_format import to_messages

COLUMNS = ("system", "question", "answer", "image")
_ARROW: Any = pyarrow.compute
"""Its functions are made when it is imported, so no type checker knows them."""
_BYTES = pa.large_binary()
_QUOTE, _BACKSLASH, _SPACE = b'"\\ '


def joined(lines: pa.Array) -> memoryview:
    """All lines one after the other, uncopied."""
    return _content(lines)[1]


class LineTemplate:
    """The lines that a prompt makes of rows; `graded` ones have the answer beside the conversation."""

    def __init__(self, prompt: Prompt, *, graded: bool = False) -> None:
        written = prompt.model_dump_json()
        unused = (character for code in range(0xE000, 0xF900) if (character := chr(code)) not in written)
        system, question, answer, url = islice(unused, 4)
        self._places = {"system": system, "question": question, "answer": answer}
        self._pieces: list[tuple[list[str], list[str]]] = []
        """Of each kind of row the pieces of its line before and after its image. Kinds as in `around_images`."""
        for system_message in (None, "", system):
            for image in (None, url):
                said = None if graded else answer
                messages = to_messages(prompt, question, image, said, system=system_message)
                beside = {FIELD: answer} if graded else {}
                line = orjson.dumps({"messages": messages} | beside, option=orjson.OPT_APPEND_NEWLINE).decode()
                before, _, after = line.partition(url)
                self._pieces.append((self._divided(before), self._divided(after)))

    def around_images(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """Render each row's line, but for its image.

        Args:
            rows: `COLUMNS` of text, [n]. Without a system message of a row's own the prompt's holds.

        Returns:
            What comes before the URL of the image and what comes after it, in UTF-8, [n] each; the whole line and
            nothing where a row has no image.
        """
        texts = {place: _escaped(rows[name].cast(_BYTES)) for name, place in self._places.items()}
        silent = _ARROW.equal(rows["system"].cast(_BYTES), b"")
        system_kinds = _ARROW.if_else(rows["system"].is_null(), 0, _ARROW.if_else(silent, 1, 2)).to_numpy()
        kinds = 2 * system_kinds + rows["image"].is_valid().to_numpy(zero_copy_only=False)
        before = after = pa.nulls(len(rows), _BYTES)
        for kind in np.unique(kinds).tolist():
            is_kind = pa.array(kinds == kind)
            head, tail = (_filled(pieces, texts) for pieces in self._pieces[kind])
            before, after = _ARROW.if_else(is_kind, head, before), _ARROW.if_else(is_kind, tail, after)
        return before, after

    def _divided(self, part: str) -> list[str]:
        return re.split(f"([{''.join(self._places.values())}])", part)


def _filled(pieces: list[str], texts: Mapping[str, pa.Array]) -> Any:
    """The pieces of a line one after the other, each row's own texts in their places."""
    columns = [texts[piece] if piece in texts else pa.scalar(piece.encode(), _BYTES) for piece in pieces]
    return _ARROW.binary_join_element_wise(*columns, pa.scalar(b"", _BYTES), null_handling="skip")


def _escaped(texts: pa.Array) -> pa.Array:
    """UTF-8 texts as they stand between the quotes of JSON. Most hold nothing to escape and are left as they are."""
    ends, data = _content(texts)
    characters = np.frombuffer(data, np.uint8)
    special = (characters < _SPACE) | (characters == _QUOTE) | (characters == _BACKSLASH)
    touched = np.zeros(len(texts), bool)
    touched[np.searchsorted(ends, np.flatnonzero(special), "right")] = True
    mask = pa.array(touched)
    escaped = [orjson.dumps(text.decode())[1:-1] for text in texts.filter(mask).to_pylist()]
    return _ARROW.replace_with_mask(texts, mask, pa.array(escaped, _BYTES))


def _content(texts: pa.Array) -> tuple[np.ndarray, memoryview]:
    """Where each text ends, [n], in what all of them hold together."""
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return bounds[1:] - bounds[0], memoryview(data or b"")[bounds[0] : bounds[-1]]
