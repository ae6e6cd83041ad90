"""Metrics of texts: by the libraries that OpenAI names, and refused by name where there is none."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from finetune_assets.errors import GraderError
from finetune_assets.server.grading.similarity import measure

REFERENCE = "the cat sat on the mat"


@pytest.mark.parametrize(
    ("metric", "library", "other", "between"),
    [
        ("fuzzy_match", "rapidfuzz", "The cat sat on a mat!", (0.85, 0.99)),
        ("bleu", "nltk", "the cat sat on a mat", (0.4, 0.7)),
        # 5 of 6 words, 3 of 5 pairs, 2 of 4 threes and 1 of 3 fours are in both.
        ("gleu", "nltk", "the cat sat on a mat", (11 / 18 - 1e-9, 11 / 18 + 1e-9)),
        ("rouge_1", "rouge_score", "the cat sat on a mat", (5 / 6 - 1e-9, 5 / 6 + 1e-9)),
        ("rouge_2", "rouge_score", "the cat sat on a mat", (3 / 5 - 1e-9, 3 / 5 + 1e-9)),
        ("rouge_l", "rouge_score", "the mat sat on a cat", (3 / 6 - 1e-9, 4 / 6 + 1e-9)),
    ],
)
def test_a_metric_is_1_for_equal_texts_0_for_an_empty_one_and_between_for_others(
    metric: str, library: str, other: str, between: tuple[float, float]
) -> None:
    pytest.importorskip(library)
    compare = measure(metric)
    assert compare(REFERENCE, REFERENCE) == pytest.approx(1)
    assert compare("", REFERENCE) == 0
    assert between[0] <= compare(other, REFERENCE) <= between[1]


@pytest.mark.parametrize(("metric", "why"), [("cosine", "a model of embeddings"), ("meteor", "WordNet")])
def test_a_metric_that_nothing_here_computes_is_refused_by_name(metric: str, why: str) -> None:
    with pytest.raises(GraderError, match=f"the metric '{metric}' is not available: it needs {why}.*rouge_l"):
        measure(metric)


@pytest.mark.parametrize(("metric", "library"), [("fuzzy_match", "rapidfuzz"), ("rouge_l", "rouge_score")])
def test_a_metric_whose_library_is_not_installed_names_what_to_install(metric: str, library: str) -> None:
    if find_spec(library):
        pytest.skip(f"{library} is installed")
    with pytest.raises(GraderError, match=r"is not installed where the server runs: pip install 'finetune_assets\[gra"):
        measure(metric)
