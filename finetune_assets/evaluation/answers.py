"""What a model answered: the word it wrote, and the probability it gave to the positive word."""

from __future__ import annotations

import math
import re
import unicodedata

from finetune_assets.task import BinaryAnswer


def parse(text: str | None, answer: BinaryAnswer) -> str | None:
    """Return the answer word that `text` begins with, in the task's spelling, or None where it begins with neither.

    Case, white space and leading punctuation (`**yes**, because …`) do not matter; a longer word (`Nothing`) is not an
    answer, and where one answer begins with the other (`No`, `No defect`) the longer one is preferred.
    """
    for word in sorted((answer.positive, answer.negative), key=len, reverse=True):
        spelled = r"\s+".join(re.escape(part) for part in _normal(word).split())
        if re.match(rf"[\W_]*?{spelled}(?![^\W_])", _normal(text or "")):
            return word
    return None


def positive_probability(top_logprobs: dict[str, float] | None, answer: BinaryAnswer) -> float | None:
    """Return P(positive) / (P(positive) + P(negative)) at the first token of the answer, 0 to 1.

    `top_logprobs` maps the most probable tokens to natural logarithms. A token counts for the one answer that it
    begins (`Y`, ` Yes`) or that begins it (`yes,`), whatever its case; a token that fits both or neither is left out.

    Where tokens of only one answer were returned, the other answer's token is no likelier than the least likely of
    them, and no likelier than all that is left of 1. It gets that bound: the most cautious probability that fits.

    None where no token of either answer was returned, or both have probability 0.
    """
    mass = {answer.positive: 0.0, answer.negative: 0.0}
    for token, logprob in (top_logprobs or {}).items():
        begun = [word for word in mass if _begins(token, word)]
        if len(begun) == 1:
            mass[begun[0]] += math.exp(logprob)
    positive, negative = mass[answer.positive], mass[answer.negative]
    if positive + negative == 0:
        return None
    if positive == 0 or negative == 0:
        bound = _largest_unseen(top_logprobs or {})
        positive, negative = positive or bound, negative or bound
    return positive / (positive + negative)


def _begins(token: str, word: str) -> bool:
    start, whole = _normal(token).strip(), _normal(word)
    if not start:
        return False
    return whole.startswith(start) or re.match(rf"{re.escape(whole)}(?![^\W_])", start) is not None


def _largest_unseen(top_logprobs: dict[str, float]) -> float:
    probabilities = [math.exp(logprob) for logprob in top_logprobs.values()]
    return max(0.0, min(min(probabilities), 1 - sum(probabilities)))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
