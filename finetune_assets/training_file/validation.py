"""Says, line by line, what a provider would refuse in a training file and what a reviewer should know of it.

One pass, streaming: of the lines that went by only 64-bit hashes stay in memory (some 150 bytes an example).
Nothing in a file raises; whatever is wrong becomes a finding with its line, a code and what to do. What is wrong with
all of a file, as another format or encoding, is one finding, not one a line. Imports neither pandas nor anything that
knows tasks, because the fine-tuning server checks uploaded files with it too.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from finetune_assets.dataset.json_lines import BYTE_ORDER_MARK, explain, not_an_object, opened, raw_lines
from finetune_assets.errors import TrainingFileError
from finetune_assets.training_file.counting import Counting
from finetune_assets.training_file.example import Example
from finetune_assets.training_file.file_shape import file_problem
from finetune_assets.training_file.findings import WARNINGS, FileReport, Findings, Problem, Report, has_error
from finetune_assets.training_file.formats import Formats
from finetune_assets.training_file.image_rules import CheckedImage, check_images
from finetune_assets.training_file.key_rules import check_repeated_keys
from finetune_assets.training_file.look_alikes import MAX_IMAGES
from finetune_assets.training_file.message_rules import check_plain_chat, read_chat
from finetune_assets.training_file.preference_rules import read_pair
from finetune_assets.training_file.reinforcement_rules import References, read_task
from finetune_assets.training_file.seen import SeenExamples
from finetune_assets.training_file.tally import Tally
from finetune_assets.training_file.target import METHODS, OPENAI, Method, Target
from finetune_assets.training_file.text_rules import check_text, texts_of
from finetune_assets.training_file.tokens import talk

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["FileReport", "Method", "Report", "validate"]

_BUFFER_BYTES = 1 << 20
_READ = {"supervised": read_chat, "dpo": read_pair, "reinforcement": read_task}


def validate(
    path: str | Path | UPath,
    validation_path: str | Path | UPath | None = None,
    target: Target = OPENAI,
    method: Method | None = "supervised",
    *,
    structure_only: bool = False,
    alike: bool = False,
    references: Iterable[bytes] = (),
) -> Report:
    """Check a training file and, where given, its validation file.

    Args:
        path: JSONL at any fsspec location, one example a line, in the format of the method.
        validation_path: The file whose examples are held back; what it shares with the training file is a leak.
        target: The provider and model whose limits hold.
        method: What the files are to train; None takes what most of a file's lines are for.
        structure_only: Check JSON, keys, roles, weights and tools alone: count no tokens, look at no inlined image,
            search no text and compare no examples.
        alike: Take for leaks also the training file's questions put down otherwise, and images that look like its own;
            inlined images are then decoded, some milliseconds each.
        references: Images that are only shown for comparison, so that both files may hold them. One that stands beside
            different images in many examples of the training file is taken for such a one anyway.

    Raises:
        TrainingFileError: a file cannot be opened. Nothing in the contents raises.
    """
    alike = alike and validation_path is not None and not structure_only
    training = _FileCheck(target, method, structure_only, SeenExamples(alike=alike, references=references))
    files = [training.run(path)]
    if validation_path is not None:
        fewer, seen = replace(target, min_examples=1), SeenExamples(alike=alike)
        files.append(_FileCheck(fewer, method, structure_only, seen, training.seen).run(validation_path))
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

    def __init__(
        self,
        target: Target,
        method: Method | None,
        structure_only: bool,
        seen: SeenExamples,
        held_out_from: SeenExamples | None = None,
    ) -> None:
        self.target = target
        self.structure_only = structure_only
        self.held_out_from = held_out_from
        self.seen = seen
        self.leaking: set[int] = set()
        """Lines that share something with the training file."""
        self.formats = Formats(method)
        self.graded = method == "reinforcement"
        self.references = References()
        self.tallies: dict[Method, Tally] = {method: Tally() for method in METHODS}
        self.errors = Findings()
        self.warnings = Findings()
        self.n_lines = self.n_broken = 0
        self.counting = Counting(self._counted)

    def run(self, path: str | Path | UPath) -> FileReport:
        try:
            with opened(path) as file, self.counting:
                hashing = _HashingReader(file)
                reader = io.BufferedReader(hashing, _BUFFER_BYTES)
                if (whole := file_problem(reader)) is None:
                    for line in raw_lines(reader):
                        self._line(line)
                else:
                    problem, self.n_lines = whole
                    self.errors.add(None, *problem)
        except OSError as error:
            raise TrainingFileError(f"{path}: cannot be read: {error.strerror or error}") from error
        tally = self.tallies[self.formats.method]
        if whole is None:
            self._report(tally, hashing.n_bytes)
        return FileReport(
            path=str(path),
            sha256=hashing.sha256.hexdigest(),
            bytes=hashing.n_bytes,
            n_lines=self.n_lines,
            n_examples=tally.n_examples,
            n_images=tally.n_images,
            tokens_total=tally.tokens_total,
            tokens_max=tally.tokens_max,
            tool_tokens=tally.tool_tokens,
            token_histogram=dict(sorted(tally.token_histogram.items())),
            message_histogram=dict(sorted(tally.message_histogram.items())),
            answers=dict(tally.answers.most_common()) if tally.answers else {},
            structure_only=self.structure_only,
            errors=self.errors.closed(self.n_lines),
            warnings=self.warnings.closed(self.n_lines),
            error_counts=dict(self.errors.counts),
            warning_counts=dict(self.warnings.counts),
        )

    def _report(self, tally: Tally, n_bytes: int) -> None:
        """Report what is seen at the end of the file."""
        method = self.formats.method
        if method not in self.target.methods:
            known = ", ".join(self.target.methods)
            told = f"{self.target.name} is not trained by the method {method!r}, only by {known}; choose another"
            self.errors.add(None, "method_not_supported", told)
        self.formats.report(self.errors)
        self.references.report(self.warnings)
        self._compare_looks()
        if not self.formats.all_wrong:
            tally.report(n_bytes, self.n_broken, self.target, self.errors, self.warnings)

    def _line(self, line: bytes) -> None:
        self.n_lines += 1
        found: list[Problem] = []
        if line.startswith(BYTE_ORDER_MARK):
            self._check_mark(found)
            line = line[len(BYTE_ORDER_MARK) :]
        try:
            example = orjson.loads(line)
        except orjson.JSONDecodeError:
            problem = explain(line)
            found.append((problem.code, problem.message))
        else:
            if type(example) is dict:
                if check_repeated_keys(line, example, found):
                    self._example(line, example, found)
            else:
                problem = not_an_object(example)
                found.append((problem.code, problem.message))
        if found:
            self.n_broken += has_error(found)
            for code, message in found:
                (self.warnings if code in WARNINGS else self.errors).add(self.n_lines, code, message)

    def _check_mark(self, found: list[Problem]) -> None:
        """Judge a byte order mark, which Azure's guide asks for, at the beginning of a file."""
        if self.n_lines > 1:
            told = "it begins with a byte order mark, as files that were joined do; take it out"
            found.append(("invalid_encoding", told))
        elif not self.target.byte_order_mark:
            told = "the file begins with a byte order mark, which not every reader takes; save it as UTF-8 without one"
            found.append(("byte_order_mark", told))

    def _example(self, line: bytes, raw: dict[str, Any], found: list[Problem]) -> None:
        """Check one object; where it is well-formed, count it and compare it with those before."""
        method = self.formats.add(self.n_lines, raw)
        if self.structure_only and method == "supervised" and check_plain_chat(raw, found):
            self.tallies[method].n_examples += not has_error(found)
            return
        example = _READ[method](raw, self.target, found)
        images: list[CheckedImage] = []
        if not self.structure_only:
            images = check_images(example.messages, self.target, found)
            check_text(texts_of(example.every_message), line, found)
        if method == "reinforcement":
            self.references.add(self.n_lines, raw)
            if not self.graded:
                return
        if found and has_error(found):
            return
        if self.structure_only:
            self.tallies[method].n_examples += 1
        else:
            self._count(example, images, method)

    def _count(self, example: Example, images: list[CheckedImage], method: Method) -> None:
        """Count a well-formed example and compare it. A preference pair has two answers to what is asked."""
        messages, sizes = example.messages, [image.size for image in images]
        talks = [[*messages, answer] for answer in example.outputs] or [messages]
        counted = [talk(each, self.target.image_cost, sizes) for each in talks]
        tally, n_tool_tokens = self.tallies[method], example.tools.tokens
        if n_tool_tokens:
            counted = [(fixed + n_tool_tokens, texts) for fixed, texts in counted]
            tally.tool_tokens += n_tool_tokens * len(counted)
        self.counting.add(self.n_lines, counted)
        prompt = self.seen.add(self.n_lines, example, images, self.warnings)
        if self.held_out_from is not None and (told := self.held_out_from.find_leak(prompt, example, images)):
            self._leak(self.n_lines, told)
        if images and self.seen.looks is not None:
            self.seen.looks.add(self.n_lines, (self.held_out_from or self.seen).judged(images))
        said = [message.label for message in messages if message.role == "assistant"]
        tally.add(len(messages), len(images), said if method == "supervised" else [])

    def _leak(self, line: int, told: str) -> None:
        if line not in self.leaking:
            self.leaking.add(line)
            self.errors.add(line, "leak", told)

    def _compare_looks(self) -> None:
        """Report held-out images that look like those of the training file, once both files are known."""
        looks, training = self.seen.looks, self.held_out_from
        if looks is None:
            return
        looks.close()
        if looks.n_left_out:
            told = (
                f"{looks.n_left_out:,} images were not compared by their looks, which is done for {MAX_IMAGES:,} a file"
            )
            self.warnings.add(None, "not_compared", f"{told}; validate a part of the file, too")
        if training is not None and training.looks is not None:
            for line, other in looks.like(training.looks, training.is_reference):
                told = f"its image looks like that of line {other} of the training file, as a copy of it does"
                self._leak(line, f"{told}; keep an image's questions in one file")

    def _counted(self, line: int, tokens: list[int]) -> None:
        """Take an example's tokens, which may come later than those of the next."""
        tally = self.tallies["reinforcement" if self.graded else "dpo" if len(tokens) == 2 else "supervised"]
        limit = self.target.max_tokens
        if limit is not None and (most := max(tokens)) > limit:
            estimated = ", those of the functions estimated" if tally.tool_tokens else ""
            told = f"{most:,} tokens{estimated}; what is beyond {limit:,} is cut off, so shorten it"
            self.warnings.add(line, "too_long", told)
        tally.add_tokens(sum(tokens))
