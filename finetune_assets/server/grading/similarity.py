"""How alike two texts are, from 0 to 1, by the libraries that OpenAI's graders name (the extra `graders`).

- `fuzzy_match`: rapidfuzz' `WRatio` of both texts in lower case without punctuation, a hundredth of it;
- `rouge_1` to `rouge_5`, `rouge_l`: F-measure of rouge-score, words as they stand;
- `bleu`, `gleu`: NLTK's of one sentence in words between blanks; BLEU with Chen and Cherry's (2014) first smoothing,
  without which a text without a common run of four words would always have 0.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from finetune_assets.errors import GraderError

LONGEST = 10_000
"""Characters of a text that is compared: the longest common subsequence takes their square."""
_LIBRARIES = {"fuzzy_match": "rapidfuzz", "bleu": "nltk", "gleu": "nltk"} | {
    f"rouge_{kind}": "rouge_score" for kind in ("1", "2", "3", "4", "5", "l")
}
_NOT_HERE = {
    "cosine": "it needs a model of embeddings, which this server does not have",
    "meteor": "it needs WordNet, which no package brings",
}


def measure(metric: str) -> Callable[[str, str], float]:
    """Find the measure of an answer and its reference.

    Raises:
        GraderError: this server does not have it; the message says why, and what would help.
    """
    if metric in _NOT_HERE:
        known = ", ".join(_LIBRARIES)
        raise GraderError(f"the metric {metric!r} is not available: {_NOT_HERE[metric]}. Known are {known}")
    if find_spec(_LIBRARIES[metric]) is None:
        told = f"the metric {metric!r} needs the library {_LIBRARIES[metric].replace('_', '-')}, which is not installed"
        raise GraderError(f"{told} where the server runs: pip install 'finetune_assets[graders]'")
    match metric:
        case "fuzzy_match":
            return _fuzzy
        case "bleu":
            return _bleu
        case "gleu":
            return _gleu
        case _:
            return _rouge(metric)


def _fuzzy(answer: str, reference: str) -> float:
    from rapidfuzz import fuzz, utils  # pyright: ignore[reportMissingImports]

    return fuzz.WRatio(answer, reference, processor=utils.default_process) / 100


def _bleu(answer: str, reference: str) -> float:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu  # pyright: ignore[reportMissingImports]

    words = answer.split()
    if not words or not reference.split():
        return 0.0
    return float(sentence_bleu([reference.split()], words, smoothing_function=SmoothingFunction().method1))


def _gleu(answer: str, reference: str) -> float:
    from nltk.translate.gleu_score import sentence_gleu  # pyright: ignore[reportMissingImports]

    if not answer.split() or not reference.split():
        return 0.0
    return float(sentence_gleu([reference.split()], answer.split()))


def _rouge(metric: str) -> Callable[[str, str], float]:
    from rouge_score.rouge_scorer import RougeScorer  # pyright: ignore[reportMissingImports]

    kind = metric.replace("rouge_", "rouge").replace("rougel", "rougeL")
    scorer = RougeScorer([kind])
    return lambda answer, reference: float(scorer.score(reference, answer)[kind].fmeasure)
