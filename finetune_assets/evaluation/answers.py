"""What a model answered: what it wrote, read as the task's kind of answer, and how sure it was of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune_assets.dataset.answer_reading import normal, options_of, read_answer, render, without_reasoning
from finetune_assets.task.answers import Answer, CallAnswer, NumberAnswer, TextAnswer

_WORD = re.compile(r"[^\W_]")
_MAY_GO_ON = re.compile(r"\d[\s.,'\u2019]*")


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


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is left of a token whose beginning belongs to what stands before the answer."""

    text: str
    logprob: float
    candidates: Mapping[str, float]

    @classmethod
    def of(cls, token: Token, before: str) -> _Rest:
        """Cut the beginning off the token and off all candidates that have it."""
        rest = {text.removeprefix(before): logprob for text, logprob in token.candidates.items()}
        return cls(token.text.removeprefix(before), token.logprob, rest)


def read(
    text: str | None,
    tokens: Sequence[Token],
    answer: Answer,
    truncated: bool = False,
    probabilities: Mapping[str, float] | None = None,
) -> Reading:
    """Read what a model wrote and the log-probabilities of its tokens (empty where the provider has none).

    Where the provider has weighed the task's words itself (`probabilities`), the likeliest one is the answer.

    The probabilities of words are those at the place where the answer stands; where there is none, at the beginning.
    Where the model was cut off in the middle of its number (`truncated`), that is no number: `$12` may have been meant
    as `$1,299`.
    """
    if probabilities is not None:
        likeliest = max(probabilities, key=probabilities.__getitem__)
        return Reading(likeliest, None, probabilities[likeliest], probabilities)
    text = text or ""
    if isinstance(answer, TextAnswer):
        written = without_reasoning(text)
        return Reading(written, None, mean_probability(tokens) if written else None)
    found = read_answer(text, answer)
    if isinstance(answer, CallAnswer):
        # Providers tell no probability of a call: certainty, which calibration replaces by the share of right ones.
        return Reading(str(found.value), None, mean_probability(tokens) or 1.0) if found else Reading(None)
    if isinstance(answer, NumberAnswer):
        cut_off = truncated and found is not None and _MAY_GO_ON.fullmatch(text, found.end - 1) is not None
        value = None if found is None or cut_off else float(found.value)
        return Reading(None if value is None else render(value, answer), value)
    word = None if found is None else str(found.value)
    probabilities = option_probabilities(from_place(tokens, text, found.start if found else 0), options_of(answer))
    return Reading(word, None, (probabilities or {}).get(word or ""), probabilities)


def from_place(tokens: Sequence[Token], text: str, start: int) -> Sequence[Token]:
    """Return the tokens of a text from a place in it on; what stands before the place in the first one is cut off it.

    All of them where only signs and white space stand before the place; none where the tokens are not the text's.
    """
    if not _WORD.search(text, 0, start):
        return tokens
    if "".join(token.text for token in tokens) != text:
        return ()
    end = 0
    for number, token in enumerate(tokens):
        begin, end = end, end + len(token.text)
        if end > start:
            return [_Rest.of(token, token.text[: start - begin]), *tokens[number + 1 :]]
    return ()


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
    whole = [option for option in options if re.match(rf"{re.escape(normal(option).strip())}(?![^\W_])", start)]
    return begun or sorted(whole, key=len)[-1:]
