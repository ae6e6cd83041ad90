"""What a file amounts to: its examples, images, tokens and answers, and the limits that they may exceed."""

from __future__ import annotations

from collections import Counter

from finetune_assets.training_file.findings import Findings

MIN_EXAMPLES = 10
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_IMAGE_EXAMPLES = 50_000
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
        self._first_said: list[object] | None = None
        self._always_said = True

    def add(self, n_messages: int, n_images: int, said: list[object]) -> None:
        """Count one example. Final answers are counted as long as they are labels rather than free text.

        Args:
            n_messages: Of the example.
            n_images: Of the example.
            said: The contents of the assistant's messages in a conversation; none of a preference pair.
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
        if type(answer) is str:
            self.answers[answer] += 1
        if type(answer) is not str or len(self.answers) > _MAX_DISTINCT_ANSWERS:
            self.answers = None

    def add_tokens(self, tokens: int) -> None:
        """Count the tokens of one example."""
        self.tokens_total += tokens
        self.tokens_max = max(self.tokens_max, tokens)
        self.token_histogram[1 << tokens.bit_length() - 1] += 1

    def report(self, n_bytes: int, least: int, errors: Findings, warnings: Findings) -> None:
        """Report what the whole file exceeds or lacks.

        Args:
            n_bytes: Size of the file.
            least: The fewest examples that are taken.
            errors: What a provider refuses is added.
            warnings: What a reviewer should know is added.
        """
        if self.n_examples < least:
            message = f"{self.n_examples} well-formed examples, at least {least} are needed; add more"
            errors.add(None, "too_few_examples", message)
        if n_bytes > MAX_FILE_BYTES:
            message = f"{n_bytes:,} bytes, at most {MAX_FILE_BYTES:,} are taken; use fewer or smaller images"
            errors.add(None, "file_too_large", message)
        if self.n_image_examples > MAX_IMAGE_EXAMPLES:
            message = f"{self.n_image_examples:,} examples with images, at most {MAX_IMAGE_EXAMPLES:,} are taken"
            errors.add(None, "too_many_image_examples", f"{message}; leave some out")
        if self.n_examples >= MIN_EXAMPLES and self.answers:
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
