"""What a model answered: what it wrote, read as the task's kind of answer, and how sure it was of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune_assets.dataset.answer_reading import begun_with, mentioned, normal, read_number, render, spelled
from finetune_assets.task import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer

_WORD = re.compile(r"[^\W_]")


class Token(Protocol):
    """One token of a model's answer; probabilities are natural logarithms, given all tokens before it."""

    @property
    def text(self) -> str:
        """The token itself."""
        ...

    @property
    def logprob(self) -> float:
        """Its log-probability."""
        ...

    @property
    def candidates(self) -> Mapping[str, float]:
        """Log-probability of the likeliest tokens at this place, itself among them."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's answer in the task's words; None where there is nothing to say."""

    predicted: str | None
    """The answer word, the number as the task's template writes it, or the text; None where it cannot be read."""
    value: float | None = None
    """The number (number answers)."""
    p_predicted: float | None = None
    """Probability of what was predicted: of the word among the task's, or the geometric mean of a text's tokens."""
    probabilities: Mapping[str, float] | None = None
    """Probability of each of the task's words (binary and choice answers); they add up to 1."""


def read(text: str | None, tokens: Sequence[Token], answer: Answer, truncated: bool = False) -> Reading:
    """Read what a model wrote and the log-probabilities of its tokens (empty where the provider has none).

    Where the model was cut off in the middle of its first number (`truncated`), that is no number: `$12` may have been
    meant as `$1,299`.
    """
    match answer:
        case BinaryAnswer() | ChoiceAnswer():
            word = parse(text, answer)
            probabilities = option_probabilities(tokens, options_of(answer))
            return Reading(word, None, (probabilities or {}).get(word or ""), probabilities)
        case NumberAnswer():
            value = read_number(text)
            if truncated and read_number(f"{text}1") != value:
                value = None
            return Reading(None if value is None else render(value, answer), value)
        case TextAnswer():
            written = (text or "").strip() or None
            return Reading(written, None, mean_probability(tokens) if written else None)


def options_of(answer: BinaryAnswer | ChoiceAnswer) -> tuple[str, ...]:
    """Return the words that may be answered."""
    return (answer.positive, answer.negative) if isinstance(answer, BinaryAnswer) else tuple(answer.options)


def parse(text: str | None, answer: BinaryAnswer | ChoiceAnswer) -> str | None:
    """Return the answer word in `text`, in the task's spelling, or None where it cannot be told.

    `text` must begin with one of two words: elsewhere a `no` means many things. An option of a choice is also read from
    within (`It is physics.`) where it is the only one there. Case, white space and leading punctuation do not matter.
    """
    return begun_with(text, options_of(answer)) if isinstance(answer, BinaryAnswer) else mentioned(text, answer.options)


def option_probabilities(tokens: Sequence[Token], options: Sequence[str]) -> dict[str, float] | None:
    """Return the probability of each option, adding up to 1, from the candidates of the first tokens of an answer.

    A candidate counts for the one option that it begins (`Y`, ` Yes`) or that begins it (`yes,`), whatever its case.
    Options that begin with the same token (`Defective`, `Deficient`) are told apart by the candidates for the token
    after it where the answer took it; where it did not, nothing more is known, and they share its probability equally.

    An option that no candidate stands for is no likelier than the least likely candidate, and all such options together
    no likelier than what is left of 1. They get that bound: the most cautious probability that fits.

    None where no candidate of any option was returned, or all have probability 0.
    """
    if not tokens:
        return None
    mass = _spread(tokens, list(options), "", 1.0)
    total = sum(mass.values())
    return {option: mass[option] / total for option in options} if total > 0 else None


def mean_probability(tokens: Sequence[Token]) -> float | None:
    """Return the geometric mean of the tokens' probabilities, 0 to 1: it does not fall with the length of the text."""
    if not tokens:
        return None
    return math.exp(sum(token.logprob for token in tokens) / len(tokens))


def _spread(tokens: Sequence[Token], options: Sequence[str], before: str, p_before: float) -> dict[str, float]:
    """Share `p_before`, the probability of the text `before`, among options by the candidates for the next token."""
    taken, later = tokens[0], tokens[1:]
    candidates = {text: math.exp(logprob) for text, logprob in taken.candidates.items()}
    mass = dict.fromkeys(options, 0.0)
    for text, p in candidates.items():
        begun, p_text = _begun(before + text, options), p_before * p
        if text == taken.text and later and len(begun) > 1:
            shares = _spread(later, begun, before + text, p_text)
        elif text == taken.text and later and not _WORD.search(before + text) and not begun:
            shares = _spread(later, options, "", p_text)  # white space or a quotation mark before the answer
        else:
            ended = [option for option in begun if text == taken.text and normal(option) == normal(before + text)]
            shares = {option: p_text / len(ended or begun) for option in ended or begun}
        for option, share in shares.items():
            mass[option] += share
    unseen = [option for option in options if mass[option] == 0]
    if unseen and len(unseen) < len(options):
        left = max(0.0, 1 - sum(candidates.values())) / len(unseen)
        mass |= dict.fromkeys(unseen, p_before * min(left, *candidates.values()))
    return mass


def _begun(text: str, options: Sequence[str]) -> list[str]:
    """Return the options that `text` may be the beginning of, or that it begins with where no longer one fits."""
    start = normal(text).strip()
    if not start:
        return []
    begun = [option for option in options if normal(option).startswith(start)]
    whole = [option for option in options if re.match(spelled(option), start)]
    return begun or sorted(whole, key=len)[-1:]
