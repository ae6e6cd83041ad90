"""Says, line by line, what a provider would refuse in a training file and what a reviewer should know of it.

One pass, streaming: of the lines that went by only 64-bit hashes stay in memory (some 150 bytes an example).
Nothing in a file raises; whatever is wrong becomes a finding with its line, a code and what to do. A file whose first
example is in the format of the other method is one finding, not one a line. Imports neither
pandas nor anything that knows tasks, because the fine-tuning server checks uploaded files with it too.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import orjson
from upath import UPath

from finetune_assets.dataset.json_lines import BYTE_ORDER_MARK, explain, not_an_object, raw_lines
from finetune_assets.errors import TrainingFileError
from finetune_assets.training_file.findings import WARNINGS, FileReport, Finding, Findings, Report
from finetune_assets.training_file.image_rules import CheckedImage, check_images
from finetune_assets.training_file.message_rules import check_example
from finetune_assets.training_file.preference_rules import INPUT_FIELD, check_pair, is_preference
from finetune_assets.training_file.seen import SeenExamples
from finetune_assets.training_file.tokens import context_limit, example_tokens
from finetune_assets.training_file.tool_rules import Problem

__all__ = ["FileReport", "Finding", "Method", "Report", "validate"]

Method = Literal["supervised", "dpo"]

MIN_EXAMPLES = 10
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_IMAGE_EXAMPLES = 50_000
_MAX_DISTINCT_ANSWERS = 20
_BUFFER_BYTES = 1 << 20


def validate(
    path: str | Path | UPath,
    validation_path: str | Path | UPath | None = None,
    model: str | None = None,
    method: Method = "supervised",
) -> Report:
    """Check a training file and, where given, its validation file.

    Args:
        path: JSONL, one example a line, in the chat format or, for the method `dpo`, in the preference format.
        validation_path: The file whose examples are held back; what it shares with the training file is a leak.
        model: The base model, for image tokens and the context limit; None counts as gpt-4o.
        method: What the files are to train.

    Raises:
        TrainingFileError: a file cannot be opened. Nothing in the contents raises.
    """
    training = _FileCheck(model, method)
    files = [training.run(UPath(path))]
    if validation_path is not None:
        files.append(_FileCheck(model, method, held_out_from=training.seen).run(UPath(validation_path)))
    return Report(files)


class _HashingReader(io.RawIOBase):
    """Passes a file's bytes on and hashes them on the way, so that the file is read once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.sha256.update(data)
        self.n_bytes += len(data)
        return len(data)


class _FileCheck:
    """One file's pass. `held_out_from` is what the training file holds, where this is the validation file."""

    def __init__(self, model: str | None, method: Method, held_out_from: SeenExamples | None = None) -> None:
        self.model = model
        self.method: Method = method
        self.wrong_method = False
        self.held_out_from = held_out_from
        self.seen = SeenExamples()
        self.errors = Findings()
        self.warnings = Findings()
        self.n_lines = self.n_examples = self.n_images = self.n_image_examples = 0
        self.tokens_total = self.tokens_max = 0
        self.token_histogram: Counter[int] = Counter()
        self.answers: Counter[str] | None = Counter() if method == "supervised" else None

    def run(self, path: UPath) -> FileReport:
        try:
            with path.open("rb") as file:
                reader = _HashingReader(cast("BinaryIO", file))
                for line in raw_lines(io.BufferedReader(reader, _BUFFER_BYTES)):
                    self._line(line)
        except OSError as error:
            raise TrainingFileError(f"{path}: cannot be read: {error.strerror or error}") from error
        self._whole_file(reader.n_bytes)
        return FileReport(
            path=str(path),
            sha256=reader.sha256.hexdigest(),
            bytes=reader.n_bytes,
            n_lines=self.n_lines,
            n_examples=self.n_examples,
            n_images=self.n_images,
            tokens_total=self.tokens_total,
            tokens_max=self.tokens_max,
            token_histogram=dict(sorted(self.token_histogram.items())),
            answers=dict(self.answers.most_common()) if self.answers else {},
            errors=self.errors.closed(),
            warnings=self.warnings.closed(),
        )

    def _line(self, line: bytes) -> None:
        self.n_lines += 1
        if self.wrong_method:
            return
        if self.n_lines == 1 and line.startswith(BYTE_ORDER_MARK):
            self.errors.add(
                1, "byte_order_mark", "the file begins with a byte order mark; save it as UTF-8 without one"
            )
            line = line[len(BYTE_ORDER_MARK) :]
        found: list[Problem] = []
        try:
            example = orjson.loads(line)
        except orjson.JSONDecodeError:
            problem = explain(line)
            found.append((problem.code, problem.message))
        else:
            if type(example) is dict:
                self._example(example, found)
            else:
                problem = not_an_object(example)
                found.append((problem.code, problem.message))
        for code, message in found:
            (self.warnings if code in WARNINGS else self.errors).add(self.n_lines, code, message)

    def _example(self, example: dict[str, Any], found: list[Problem]) -> None:
        """Check one object; where it is well-formed, count it and compare it with those before."""
        if self.n_examples == 0 and len(self.errors) == 0 and self._is_for_other_method(example):
            return
        check, field = (check_pair, INPUT_FIELD) if self.method == "dpo" else (check_example, "messages")
        check(example, found)
        if found and _has_error(found):
            return
        messages = example["messages"] if self.method == "supervised" else example["input"]["messages"]
        images = check_images(messages, found, field)
        if found and _has_error(found):
            return
        if self.method == "dpo":
            self._count_pair(example, messages, images, found)
        else:
            self._compare(messages, images, found)
            self._count_tokens(example_tokens(messages, self.model, [image.size for image in images]), found)
            self._count_answer(messages[-1].get("content"))
        self.n_examples += 1
        self.n_images += len(images)
        self.n_image_examples += bool(images)

    def _is_for_other_method(self, example: dict[str, Any]) -> bool:
        """Whether this first example shows that the whole file is in the other method's format; says so."""
        if self.method == "dpo":
            self.wrong_method = "messages" in example and "input" not in example
            message = "the file is in the chat format, but the method 'dpo' takes the preference format"
        else:
            self.wrong_method = is_preference(example)
            message = "the file is in the preference (DPO) format, but the method 'supervised' takes the chat format"
        if self.wrong_method:
            self.errors.add(None, "wrong_format", f"{message}; choose the other method, or another file")
        return self.wrong_method

    def _count_pair(
        self, example: dict[str, Any], messages: list[dict[str, Any]], images: list[CheckedImage], found: list[Problem]
    ) -> None:
        """A pair has two answers to one prompt; the same prompt with other answers is no contradiction."""
        answers = [example["preferred_output"][0], example["non_preferred_output"][0]]
        others: list[Problem] = []
        self._compare([*messages, {"role": "assistant", "content": None, "pair": answers}], images, others)
        found += [problem for problem in others if problem[0] != "contradictory_answers"]
        sizes = [image.size for image in images]
        self._count_tokens(sum(example_tokens([*messages, answer], self.model, sizes) for answer in answers), found)

    def _compare(self, messages: list[dict[str, Any]], images: list[CheckedImage], found: list[Problem]) -> None:
        prompt = self.seen.add(self.n_lines, messages, images, found)
        if self.held_out_from is not None:
            self.held_out_from.report_leak(prompt, images, found)

    def _count_tokens(self, tokens: int, found: list[Problem]) -> None:
        self.tokens_total += tokens
        self.tokens_max = max(self.tokens_max, tokens)
        self.token_histogram[1 << tokens.bit_length() - 1] += 1
        if tokens > (limit := context_limit(self.model)):
            found.append(("too_long", f"{tokens:,} tokens; what is beyond {limit:,} is cut off, so shorten it"))

    def _count_answer(self, answer: object) -> None:
        """Count the answers as long as they are labels rather than free text."""
        if self.answers is None:
            return
        if type(answer) is str:
            self.answers[answer] += 1
        if type(answer) is not str or len(self.answers) > _MAX_DISTINCT_ANSWERS:
            self.answers = None

    def _whole_file(self, n_bytes: int) -> None:
        if self.wrong_method:
            return
        least = 1 if self.held_out_from is not None else MIN_EXAMPLES
        if self.n_examples < least:
            message = f"{self.n_examples} well-formed examples, at least {least} are needed; add more"
            self.errors.add(None, "too_few_examples", message)
        if n_bytes > MAX_FILE_BYTES:
            message = f"{n_bytes:,} bytes, at most {MAX_FILE_BYTES:,} are taken; use fewer or smaller images"
            self.errors.add(None, "file_too_large", message)
        if self.n_image_examples > MAX_IMAGE_EXAMPLES:
            message = f"{self.n_image_examples:,} examples with images, at most {MAX_IMAGE_EXAMPLES:,} are taken"
            self.errors.add(None, "too_many_image_examples", f"{message}; leave some out")
        if self.n_examples >= MIN_EXAMPLES and self.answers is not None and len(self.answers) == 1:
            answer = next(iter(self.answers))
            message = f"every answer is {answer[:40]!r}; a model learns to give no other, so add counterexamples"
            self.warnings.add(None, "single_answer", message)


def _has_error(found: list[Problem]) -> bool:
    return any(code not in WARNINGS for code, _ in found)
