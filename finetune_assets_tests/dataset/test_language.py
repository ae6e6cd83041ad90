"""Text in another language than asked for."""

from __future__ import annotations

import pytest

from finetune_assets.dataset.language import other_than


@pytest.mark.parametrize(
    "text",
    [
        "What type of organism is commonly used in preparation of foods such as cheese and yogurt?",
        "Is the marker A left of B?",
        "oxidants",
        "Price is $20.00",
        "Yes",
        "",
    ],
)
def test_english_and_what_is_too_short_to_tell_pass(text: str) -> None:
    assert other_than(text, "en") is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wie viele Zellen sind auf diesem Bild defekt und warum?", "de"),
        ("Quelle est la capitale de la France et combien d'habitants a-t-elle ?", "fr"),
    ],
)
def test_another_language_is_named(text: str, language: str) -> None:
    assert f"in {language!r}" in (other_than(text, "en") or "")
    assert other_than(text, language) is None
