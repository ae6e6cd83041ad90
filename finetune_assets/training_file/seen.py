"""What went by already: finds examples that repeat or contradict each other, and those that leak into the other file.

Texts that differ in white space or capitals alone are the same. Only 64-bit hashes are kept (Python's own, keyed anew
in each process, so that no file can be made to collide). Among a million examples, a false alarm has a chance of 1 in
40 million.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from unicodedata import normalize

import orjson

from finetune_assets.training_file.example import Example
from finetune_assets.training_file.findings import Findings
from finetune_assets.training_file.image_rules import CheckedImage
from finetune_assets.training_file.look_alikes import Looks
from finetune_assets.training_file.messages import Call, Message
from finetune_assets.training_file.near_questions import near_key

_ANSWER_BITS = 32
_ANSWER_MASK = (1 << _ANSWER_BITS) - 1
_SHORT = 100
_LETTER = re.compile(r"""['"`][A-Z]['"`]|\b[A-Z]\W*$""")
"""A letter that is spoken of, in a short text: the code of 'A' is not that of 'a'."""
_PARTNERS = 3
"""Different images beside which one stands that is there for comparison."""
_REFERENCE_SHARE = 0.1
"""Share of the examples with images in which it then stands."""


class SeenExamples:
    """The prompts, answers and images of one file, by hash.

    Args:
        alike: Whether questions that are put down otherwise, and images that look the same, are remembered too.
        references: Images that are only shown for comparison.
    """

    def __init__(self, *, alike: bool = False, references: Iterable[bytes] = ()) -> None:
        self._references = frozenset(map(hash, references))
        self.looks = Looks() if alike else None
        self._near: dict[int, int] = {}
        """First line of each question, however it is put down."""
        # One integer a prompt, line and answer's hash packed: a tuple would take four times the memory.
        self._prompts: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self._beside: dict[int, set[int]] = {}
        """Of images that do not stand alone, some of those they stand beside."""
        self._n_beside: dict[int, int] = {}
        self._n_with_images = 0
        self._contradicted: set[int] = set()

    def add(self, line: int, example: Example, images: Sequence[CheckedImage], found: Findings) -> int:
        """Remember a well-formed example and report an earlier one with the same prompt.

        Two answers to one prompt are reported on both lines, since either may be the wrong one. Those of a preference
        pair may differ from those of other pairs, as long as no pair prefers what another does not.

        Returns:
            The prompt's hash.
        """
        prompt, answers = _hashes(example, images)
        answer = hash(answers) & _ANSWER_MASK
        first = self._prompts.setdefault(prompt, line << _ANSWER_BITS | answer)
        first_line, first_answer = first >> _ANSWER_BITS, first & _ANSWER_MASK
        if first_line != line:
            if first_answer == answer:
                found.add(line, "duplicate_example", f"the same example as line {first_line}; keep one of them")
            elif len(answers) == 1 or first_answer == hash(answers[::-1]) & _ANSWER_MASK:
                self._contradiction(first_line, line, found)
        if images:
            self._add_images(line, [image.key for image in images if image.asked])
        if self.looks is not None and (near := near_key(example, [image.key for image in images])) is not None:
            self._near.setdefault(near, line)
        return prompt

    def _add_images(self, line: int, keys: list[int]) -> None:
        self._n_with_images += 1
        for key in keys:
            self._images.setdefault(key, line)
        if len(keys) > 1:
            for key in set(keys):
                self._n_beside[key] = self._n_beside.get(key, 0) + 1
                others = self._beside.setdefault(key, set())
                if len(others) < _PARTNERS:
                    others.update(set(keys) - {key})

    def _contradiction(self, first_line: int, line: int, found: Findings) -> None:
        told = "the same question as line {} with another answer; keep the right one"
        found.add(line, "contradictory_answers", told.format(first_line))
        if first_line not in self._contradicted:
            self._contradicted.add(first_line)
            found.add(first_line, "contradictory_answers", told.format(line))

    def find_leak(self, prompt: int, example: Example, images: Sequence[CheckedImage]) -> str | None:
        """Say what a held-out example shares with this file, the training file; None where it shares nothing."""
        if (first := self._prompts.get(prompt)) is not None:
            return f"the same question is in line {first >> _ANSWER_BITS} of the training file; remove it from one"
        for image in self.judged(images):
            if (line := self._images.get(image.key)) is not None:
                return f"its image is in line {line} of the training file too; keep an image's questions in one file"
        near = near_key(example, [image.key for image in images]) if self._near else None
        if near is not None and (line := self._near.get(near)) is not None:
            return f"the question of line {line} of the training file, put down otherwise; remove it from one"
        return None

    def judged(self, images: Sequence[CheckedImage]) -> list[CheckedImage]:
        """The images that a held-out example is about.

        Left out are those that it only shows for comparison, as a part without fault beside the one to be judged: they
        stand beside several different images, and in many examples of the training file.
        """
        asked = [image for image in images if image.asked]
        return [image for image in asked if not self.is_reference(image.key)] if len(asked) > 1 else asked

    def is_reference(self, key: int) -> bool:
        """Whether an image only stands beside others for comparison."""
        if key in self._references:
            return True
        many = self._n_beside.get(key, 0) >= _REFERENCE_SHARE * self._n_with_images
        return many and len(self._beside.get(key, ())) >= _PARTNERS


def _hashes(example: Example, images: Sequence[CheckedImage]) -> tuple[int, tuple[object, ...]]:
    """Hash of what is asked, and what is answered: one answer, or two of a preference pair, or none."""
    keys = iter(images)
    said = [_key(message, keys) for message in example.messages]
    if example.outputs:
        answers = tuple([_key(output, keys) for output in example.outputs])
    else:
        answers = (said.pop(),) if example.messages[-1].role == "assistant" else ((),)
    prompt = hash(tuple(said))
    if example.outputs or example.tools.key:
        # The same question with other functions at hand may well be answered otherwise.
        prompt = hash((prompt, bool(example.outputs), example.tools.key))
    return prompt, answers


def _key(message: Message, images: Iterator[CheckedImage]) -> tuple[object, ...]:
    role, said, shown, calls, name, _, _, refused = message
    # Whether the image comes first or the text does is the same.
    texts = _plain(said[0]) if len(said) == 1 else tuple([_plain(text) for text in said])
    if not (shown or calls or name or refused):
        return role, texts
    keys = tuple([next(images).key for _ in shown])
    # A tool's name only repeats that of the call, and the ids of calls differ from run to run.
    return role, texts, keys, tuple(map(_called, calls)), None if role == "tool" else name, refused


def _called(call: Call) -> tuple[str, bytes | str]:
    try:
        return call.name, orjson.dumps(orjson.loads(call.arguments), option=orjson.OPT_SORT_KEYS)
    except TypeError:  # orjson reads deeper than it writes
        return call.name, call.arguments


def _plain(text: str) -> str:
    """The text in small letters, with one space wherever it has white space.

    Letters that can be put together from others in Unicode are (NFC).
    """
    if not text.isascii():
        text = normalize("NFC", text)
        text = " ".join(text.split())
    elif "\n" in text or "\t" in text or text[:1] == " " or text[-1:] == " " or "  " in text:
        text = " ".join(text.split())
    return _plain_short(text) if len(text) <= _SHORT else text.lower()


@lru_cache(maxsize=256)
def _plain_short(text: str) -> str:
    """A text that may be all about a letter. Most files say some of them, such as the instructions, in every line."""
    return text if _LETTER.search(text) else text.lower()
