"""Says, line by line, what a provider would refuse in a training file and what a reviewer should know of it.

One pass, streaming: of the lines that went by only 64-bit hashes stay in memory (some 150 bytes an example).
Nothing in a file raises; whatever is wrong becomes a finding with its line, a code and what to do. Imports neither
pandas nor anything that knows tasks, because the fine-tuning server checks uploaded files with it too.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
from upath import UPath

from finetune_assets.dataset.json_lines import BYTE_ORDER_MARK, explain, not_an_object, raw_lines
from finetune_assets.errors import TrainingFileError
from finetune_assets.training_file.findings import WARNINGS, FileReport, Finding, Findings, Report
from finetune_assets.training_file.image_rules import check_images
from finetune_assets.training_file.message_rules import check_example
from finetune_assets.training_file.seen import SeenExamples
from finetune_assets.training_file.tokens import context_limit, example_tokens
from finetune_assets.training_file.tool_rules import Problem

__all__ = ["FileReport", "Finding", "Report", "validate"]

MIN_EXAMPLES = 10
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_IMAGE_EXAMPLES = 50_000
_MAX_DISTINCT_ANSWERS = 20
_BUFFER_BYTES = 1 << 20


def validate(
    path: str | Path | UPath, validation_path: str | Path | UPath | None = None, model: str | None = None
) -> Report:
    """Check a training file and, where given, its validation file.

    Args:
        path: JSONL in the chat format, one example a line.
        validation_path: The file whose examples are held back; what it shares with the training file is a leak.
        model: The base model, for image tokens and the context limit; None counts as gpt-4o.

    Raises:
        TrainingFileError: a file cannot be opened. Nothing in the contents raises.
    """
    training = _FileCheck(model)
    files = [training.run(UPath(path))]
    if validation_path is not None:
        files.append(_FileCheck(model, held_out_from=training.seen).run(UPath(validation_path)))
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

    def __init__(self, model: str | None, held_out_from: SeenExamples | None = None) -> None:
        self.model = model
        self.held_out_from = held_out_from
        self.seen = SeenExamples()
        self.errors = Findings()
        self.warnings = Findings()
        self.n_lines = self.n_examples = self.n_images = self.n_image_examples = 0
        self.tokens_total = self.tokens_max = 0
        self.token_histogram: Counter[int] = Counter()
        self.answers: Counter[str] | None = Counter()

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
        check_example(example, found)
        if found and _has_error(found):
            return
        messages = example["messages"]
        images = check_images(messages, found)
        if found and _has_error(found):
            return
        prompt = self.seen.add(self.n_lines, messages, images, found)
        if self.held_out_from is not None:
            self.held_out_from.report_leak(prompt, images, found)
        self.n_examples += 1
        self.n_images += len(images)
        self.n_image_examples += bool(images)
        self._count_tokens(example_tokens(messages, self.model, [image.size for image in images]), found)
        self._count_answer(messages[-1].get("content"))

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
