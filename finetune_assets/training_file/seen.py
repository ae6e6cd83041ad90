"""What went by already: finds examples that repeat or contradict each other, and those that leak into the other file.

Only 64-bit hashes are kept (Python's own, keyed anew in each process, so that no file can be made to collide).
A false alarm among a million examples has a chance of 1 in 40 million.
"""

from __future__ import annotations

from typing import Any

import orjson

from finetune_assets.training_file.image_rules import CheckedImage
from finetune_assets.training_file.tool_rules import Problem

_ANSWER_BITS = 32
_ANSWER_MASK = (1 << _ANSWER_BITS) - 1


class SeenExamples:
    """The prompts, answers and images of one file, by hash."""

    def __init__(self) -> None:
        # One integer a prompt, line and answer's hash packed: a tuple would take four times the memory.
        self._prompts: dict[int, int] = {}
        self._images: dict[int, int] = {}

    def add(self, line: int, messages: list[dict[str, Any]], images: list[CheckedImage], found: list[Problem]) -> int:
        """Remember a well-formed example and report an earlier one with the same prompt.

        Returns:
            The prompt's hash.
        """
        prompt, answer = _hashes(messages, images)
        first = self._prompts.setdefault(prompt, line << _ANSWER_BITS | answer)
        first_line = first >> _ANSWER_BITS
        if first_line != line:
            if first & _ANSWER_MASK == answer:
                found.append(("duplicate_example", f"the same example as line {first_line}; keep one of them"))
            else:
                message = f"the same question as line {first_line} with another answer; keep the right one"
                found.append(("contradictory_answers", message))
        for image in images:
            if image.asked:
                self._images.setdefault(image.key, line)
        return prompt

    def report_leak(self, prompt: int, images: list[CheckedImage], found: list[Problem]) -> None:
        """Report what a held-out example shares with this file, the training file."""
        if (first := self._prompts.get(prompt)) is not None:
            message = f"the same question is in line {first >> _ANSWER_BITS} of the training file; remove it from one"
            found.append(("leak", message))
            return
        for image in images:
            if image.asked and (line := self._images.get(image.key)) is not None:
                message = f"its image is in line {line} of the training file too; keep an image's questions in one file"
                found.append(("leak", message))
                return


def _hashes(messages: list[dict[str, Any]], images: list[CheckedImage]) -> tuple[int, int]:
    """Hash of all before the last message, and 32 bits of the last one's."""
    keys = iter(images)
    *prompt, answer = [_content_key(message, keys) for message in messages]
    return hash(tuple(prompt)), hash(answer) & _ANSWER_MASK


def _content_key(message: dict[str, Any], images: Any) -> tuple[object, ...]:
    content = message.get("content")
    if type(content) is list:
        content = tuple([next(images).key if part["type"] == "image_url" else part[part["type"]] for part in content])
    if len(message) == 2:
        return message["role"], content
    others = {key: value for key, value in message.items() if key not in ("role", "content", "weight")}
    return message["role"], content, orjson.dumps(others, option=orjson.OPT_SORT_KEYS) if others else None
