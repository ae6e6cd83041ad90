"""What a training takes, in words."""

from __future__ import annotations

from finetune_assets.asking.spending import Estimate


def test_what_training_takes_is_said_in_words() -> None:
    unknown = Estimate(tokens=17486, epochs=2, cost_usd=None)
    assert str(unknown) == "17,486 tokens, 2 epochs, price unknown"
    assert str(Estimate(tokens=7, epochs=1, cost_usd=0.004)) == "7 tokens, 1 epochs, 0.00 USD"
