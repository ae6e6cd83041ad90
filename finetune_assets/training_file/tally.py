"""What a file amounts to: its examples, images, tokens and answers, and the limits that they may exceed."""

from __future__ import annotations

from collections import Counter

from finetune_assets.training_file.findings import Findings
from finetune_assets.training_file.target import Target

_FEW = 10
"""Examples below which nothing is said of how their answers are spread."""
_MAX_DISTINCT_ANSWERS = 20
_MOST_OF_ONE = 0.95
"""Share of the examples above which one answer crowds out the others."""


class Tally:
    """The sums over the well-formed examples of one file."""

    def __init__(self) -> None:
        self.n_examples = self.n_images = self.n_image_examples = 0
        self.tokens_total = self.tokens_max = 0
        self.token_histogram: Counter[int] = Counter()
        self.message_histogram: Counter[int] = Counter()
        self.answers: Counter[str] | None = Counter()
        self.tool_tokens = 0
        """Of all examples' tools, an estimate; part of `tokens_total`."""
        self._first_said: list[str | None] | None = None
        self._always_said = True

    def add(self, n_messages: int, n_images: int, said: list[str | None]) -> None:
        """Count one example. Final answers are counted as long as they are labels rather than free text.

        Args:
            n_messages: Of the example.
            n_images: Of the example.
            said: The assistant's messages in a conversation, None for one that is no single text; empty of a line that
                holds no conversation.
        """
        answer = said[-1] if said else None
        if self._always_said:
            self._first_said = self._first_said or said
            self._always_said = said == self._first_said
        self.n_examples += 1
        self.message_histogram[n_messages] += 1
        self.n_images += n_images
        self.n_image_examples += bool(n_images)
        if self.answers is None:
            return
        if answer is not None:
            self.answers[answer] += 1
        if answer is None or len(self.answers) > _MAX_DISTINCT_ANSWERS:
            self.answers = None

    def add_tokens(self, tokens: int) -> None:
        """Count the tokens of one example."""
        self.tokens_total += tokens
        self.tokens_max = max(self.tokens_max, tokens)
        self.token_histogram[1 << tokens.bit_length() - 1] += 1

    def report(self, n_bytes: int, n_broken: int, target: Target, errors: Findings, warnings: Findings) -> None:
        """Report what the whole file exceeds or lacks.

        Args:
            n_bytes: Size of the file.
            n_broken: Lines that are examples as soon as they are mended: their number is not what is wrong with a file.
            target: What is taken.
            errors: What a provider refuses is added.
            warnings: What a reviewer should know is added.
        """
        if self.n_examples + n_broken < (least := target.min_examples):
            message = f"{self.n_examples} well-formed examples, at least {least} are needed; add more"
            errors.add(None, "too_few_examples", message)
        if n_bytes > target.max_file_bytes:
            message = f"{n_bytes:,} bytes, at most {target.max_file_bytes:,} are taken; use fewer or smaller images"
            errors.add(None, "file_too_large", message)
        if self.n_image_examples > (most := target.max_image_examples):
            message = f"{self.n_image_examples:,} examples with images, at most {most:,} are taken; leave some out"
            errors.add(None, "too_many_image_examples", message)
        if self.n_images and not target.trains_on_images:
            message = f"{target.model} is not among the models that {target.provider} trains on images"
            warnings.add(None, "no_image_training", f"{message}, by its guide; choose one that is")
        if self.n_examples >= _FEW and self.answers:
            self._report_answers(self.answers, warnings)

    def _report_answers(self, answers: Counter[str], warnings: Findings) -> None:
        [(answer, n)] = answers.most_common(1)
        if len(answers) > 1 and n >= _MOST_OF_ONE * self.n_examples:
            message = f"{n:,} of {self.n_examples:,} answers are {answer[:40]!r}; a model that always says so is right"
            warnings.add(None, "dominant_answer", f"{message} as often, so add others")
        # Talks that differ and end alike, as with a farewell, teach more than their end.
        if len(answers) == 1 and self._always_said:
            message = f"every answer is {answer[:40]!r}; a model learns to give no other, so add counterexamples"
            warnings.add(None, "single_answer", message)
