"""Says, line by line, what a provider would refuse in a training file and what a reviewer should know of it.

One pass, streaming: of the lines that went by only 64-bit hashes stay in memory (some 150 bytes an example).
Nothing in a file raises; whatever is wrong becomes a finding with its line, a code and what to do. A file that is all
in the format of the other method is one finding, not one a line. Imports neither
pandas nor anything that knows tasks, because the fine-tuning server checks uploaded files with it too.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson

from finetune_assets.dataset.json_lines import BYTE_ORDER_MARK, explain, not_an_object, raw_lines
from finetune_assets.errors import TrainingFileError
from finetune_assets.training_file.counting import Counting
from finetune_assets.training_file.findings import WARNINGS, FileReport, Findings, Problem, Report, has_error
from finetune_assets.training_file.formats import Formats, Method
from finetune_assets.training_file.image_rules import CheckedImage, check_images
from finetune_assets.training_file.key_rules import check_repeated_keys
from finetune_assets.training_file.message_rules import check_example
from finetune_assets.training_file.preference_rules import INPUT_FIELD, check_pair, input_of, outputs_of
from finetune_assets.training_file.seen import SeenExamples
from finetune_assets.training_file.tally import MIN_EXAMPLES, Tally
from finetune_assets.training_file.text_rules import check_text, texts_of
from finetune_assets.training_file.tokens import context_limit, talk

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["FileReport", "Method", "Report", "validate"]

_BUFFER_BYTES = 1 << 20


def validate(
    path: str | Path | UPath,
    validation_path: str | Path | UPath | None = None,
    model: str | None = None,
    method: Method | None = "supervised",
    *,
    structure_only: bool = False,
) -> Report:
    """Check a training file and, where given, its validation file.

    Args:
        path: JSONL, one example a line, in the chat format or, for the method `dpo`, in the preference format.
        validation_path: The file whose examples are held back; what it shares with the training file is a leak.
        model: The base model, for image tokens and the context limit; None counts as gpt-4o.
        method: What the files are to train; None takes what most of a file's lines are for.
        structure_only: Check JSON, keys, roles, weights and tools alone: count no tokens, look at no inlined image,
            search no text and compare no examples.

    Raises:
        TrainingFileError: a file cannot be opened. Nothing in the contents raises.
    """
    training = _FileCheck(model, method, structure_only)
    files = [training.run(path)]
    if validation_path is not None:
        files.append(_FileCheck(model, method, structure_only, training.seen).run(validation_path))
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
        self, model: str | None, method: Method | None, structure_only: bool, held_out_from: SeenExamples | None = None
    ) -> None:
        self.model = model
        self.structure_only = structure_only
        self.held_out_from = held_out_from
        self.seen = SeenExamples()
        self.formats = Formats(method)
        self.tallies: dict[Method, Tally] = {"supervised": Tally(), "dpo": Tally()}
        self.errors = Findings()
        self.warnings = Findings()
        self.n_lines = 0
        self.counting = Counting(self._counted)

    def run(self, path: str | Path | UPath) -> FileReport:
        try:
            with _open(path) as file, self.counting:
                reader = _HashingReader(file)
                for line in raw_lines(io.BufferedReader(reader, _BUFFER_BYTES)):
                    self._line(line)
        except OSError as error:
            raise TrainingFileError(f"{path}: cannot be read: {error.strerror or error}") from error
        tally = self.tallies[self.formats.method]
        self.formats.report(self.errors)
        if not self.formats.all_wrong:
            least = 1 if self.held_out_from is not None else MIN_EXAMPLES
            tally.report(reader.n_bytes, least, self.errors, self.warnings)
        return FileReport(
            path=str(path),
            sha256=reader.sha256.hexdigest(),
            bytes=reader.n_bytes,
            n_lines=self.n_lines,
            n_examples=tally.n_examples,
            n_images=tally.n_images,
            tokens_total=tally.tokens_total,
            tokens_max=tally.tokens_max,
            token_histogram=dict(sorted(tally.token_histogram.items())),
            message_histogram=dict(sorted(tally.message_histogram.items())),
            answers=dict(tally.answers.most_common()) if tally.answers else {},
            structure_only=self.structure_only,
            errors=self.errors.closed(),
            warnings=self.warnings.closed(),
            error_counts=dict(self.errors.counts),
            warning_counts=dict(self.warnings.counts),
        )

    def _line(self, line: bytes) -> None:
        self.n_lines += 1
        found: list[Problem] = []
        if line.startswith(BYTE_ORDER_MARK):
            message = "it begins with a byte order mark; save the file as UTF-8 without one"
            self.errors.add(self.n_lines, "byte_order_mark", message)
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
        for code, message in found:
            (self.warnings if code in WARNINGS else self.errors).add(self.n_lines, code, message)

    def _example(self, line: bytes, example: dict[str, Any], found: list[Problem]) -> None:
        """Check one object; where it is well-formed, count it and compare it with those before."""
        method = self.formats.add(self.n_lines, example)
        if method == "dpo":
            check_pair(example, found)
            asked, answers, field = input_of(example), outputs_of(example), INPUT_FIELD
        else:
            check_example(example, found)
            asked, answers, field = example, [], "messages"
        messages, images = asked.get("messages"), []
        if not self.structure_only and type(messages) is list:
            images = check_images(messages, found, field)
            check_text(texts_of([*messages, *answers]), line, found)
        if found and has_error(found):
            return
        if self.structure_only:
            self.tallies[method].n_examples += 1
        else:
            self._count(asked, answers, images, method)

    def _count(
        self, asked: dict[str, Any], answers: list[dict[str, Any]], images: list[CheckedImage], method: Method
    ) -> None:
        """Count a well-formed example and compare it. A preference pair has two answers to what is asked."""
        messages, sizes = asked["messages"], [image.size for image in images]
        talks = [[*messages, answer] for answer in answers] or [messages]
        self.counting.add(self.n_lines, [talk(each, self.model, sizes) for each in talks])
        prompt = self.seen.add(self.n_lines, asked, images, self.warnings, answers)
        if self.held_out_from is not None and (told := self.held_out_from.find_leak(prompt, images)):
            self.errors.add(self.n_lines, "leak", told)
        said = [message.get("content") for message in messages if message["role"] == "assistant"]
        self.tallies[method].add(len(messages), len(images), said if method == "supervised" else [])

    def _counted(self, line: int, tokens: list[int]) -> None:
        """Take an example's tokens, which may come later than those of the next."""
        if (most := max(tokens)) > (limit := context_limit(self.model)):
            self.warnings.add(line, "too_long", f"{most:,} tokens; what is beyond {limit:,} is cut off, so shorten it")
        self.tallies["dpo" if len(tokens) == 2 else "supervised"].add_tokens(sum(tokens))


def _open(path: str | Path | UPath) -> BinaryIO:
    if "://" in str(path):
        # fsspec takes as long to load as 100,000 lines take to be checked.
        from upath import UPath

        return cast("BinaryIO", UPath(path).open("rb"))
    return Path(str(path)).open("rb")
