"""What went by already: finds examples that repeat or contradict each other, and those that leak into the other file.

Texts that differ in white space or capitals alone are the same. Only 64-bit hashes are kept (Python's own, keyed anew
in each process, so that no file can be made to collide). Among a million examples, a false alarm has a chance of 1 in
40 million.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from unicodedata import normalize

import orjson

from finetune_assets.training_file.findings import Findings
from finetune_assets.training_file.image_rules import CheckedImage

_ANSWER_BITS = 32
_ANSWER_MASK = (1 << _ANSWER_BITS) - 1
_SHORT = 100
_LETTER = re.compile(r"""['"`][A-Z]['"`]|\b[A-Z]\W*$""")
"""A letter that is spoken of, in a short text: the code of 'A' is not that of 'a'."""


class SeenExamples:
    """The prompts, answers and images of one file, by hash."""

    def __init__(self) -> None:
        # One integer a prompt, line and answer's hash packed: a tuple would take four times the memory.
        self._prompts: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self._contradicted: set[int] = set()

    def add(
        self,
        line: int,
        asked: dict[str, Any],
        images: list[CheckedImage],
        found: Findings,
        pair: list[dict[str, Any]] | None = None,
    ) -> int:
        """Remember a well-formed example and report an earlier one with the same prompt.

        Two answers to one prompt are reported on both lines, since either may be the wrong one. Those of a preference
        pair may differ from those of other pairs, as long as no pair prefers what another does not.

        Args:
            line: Number of the example's line.
            asked: The object that holds the messages, of which the last one is the answer, and the functions declared.
            images: Of the messages.
            found: Findings are added.
            pair: The preferred answer and the other one, where these are not among the messages.

        Returns:
            The prompt's hash.
        """
        keys = iter(images)
        said = [_key(message, keys) for message in asked["messages"]]
        answers = [_key(answer, keys) for answer in pair] if pair else [said.pop()]
        prompt, answer = hash(tuple(said)), hash(tuple(answers)) & _ANSWER_MASK
        if pair or len(asked) > 1:
            # The same question with other functions at hand may well be answered otherwise.
            declared = [bool(pair), asked.get("tools") or None, asked.get("functions") or None]
            prompt = hash((prompt, orjson.dumps(declared, option=orjson.OPT_SORT_KEYS)))
        first = self._prompts.setdefault(prompt, line << _ANSWER_BITS | answer)
        first_line, first_answer = first >> _ANSWER_BITS, first & _ANSWER_MASK
        if first_line != line:
            if first_answer == answer:
                found.add(line, "duplicate_example", f"the same example as line {first_line}; keep one of them")
            elif not pair or first_answer == hash(tuple(answers[::-1])) & _ANSWER_MASK:
                self._contradiction(first_line, line, found)
        for image in images:
            if image.asked:
                self._images.setdefault(image.key, line)
        return prompt

    def _contradiction(self, first_line: int, line: int, found: Findings) -> None:
        told = "the same question as line {} with another answer; keep the right one"
        found.add(line, "contradictory_answers", told.format(first_line))
        if first_line not in self._contradicted:
            self._contradicted.add(first_line)
            found.add(first_line, "contradictory_answers", told.format(line))

    def find_leak(self, prompt: int, images: list[CheckedImage]) -> str | None:
        """Say what a held-out example shares with this file, the training file; None where it shares nothing."""
        if (first := self._prompts.get(prompt)) is not None:
            return f"the same question is in line {first >> _ANSWER_BITS} of the training file; remove it from one"
        for image in images:
            if image.asked and (line := self._images.get(image.key)) is not None:
                return f"its image is in line {line} of the training file too; keep an image's questions in one file"
        return None


def _key(message: dict[str, Any], images: Iterator[CheckedImage]) -> tuple[object, ...]:
    content = message.get("content")
    if type(content) is str:
        content = _plain(content)
    elif type(content) is list:
        # Whether the image comes first or the text does, and a single text in a list or by itself, is the same.
        texts = [_plain(part[part["type"]]) for part in content if part["type"] != "image_url"]
        shown = tuple([next(images).key for part in content if part["type"] == "image_url"])
        content = (*texts, shown) if shown or len(texts) != 1 else texts[0]
    if len(message) == 2:
        return message["role"], content
    return message["role"], content, _others(message)


def _others(message: dict[str, Any]) -> bytes | None:
    """What a message holds besides its text, but for the names of its calls, which differ from run to run."""
    unlike = ("role", "content", "weight", "tool_call_id")
    others = {key: value for key, value in message.items() if key not in unlike and value is not None}
    if "tool_calls" in others:
        others["tool_calls"] = [call["function"] for call in others["tool_calls"]]
    return orjson.dumps(others, option=orjson.OPT_SORT_KEYS) if others else None


def _plain(text: str) -> str:
    """The text in small letters, with one space wherever it has white space.

    Letters that can be put together from others in Unicode are (NFC).
    """
    if not text.isascii():
        text = normalize("NFC", text)
        text = " ".join(text.split())
    elif "\n" in text or "\t" in text or text[:1] == " " or text[-1:] == " " or "  " in text:
        text = " ".join(text.split())
    if len(text) <= _SHORT and _LETTER.search(text):
        return text
    return text.lower()
