import pytest

from finetune_assets.dataset.sources import diamonds
from finetune_assets.task.answers import NumberAnswer
from finetune_assets.task.sources import DiamondsSource

ANSWER = NumberAnswer(kind="number", template="Price is ${} thousand", decimals=1)
SOURCE = DiamondsSource(kind="diamonds")


def test_a_diamond_is_described_and_priced() -> None:
    first = next(iter(diamonds.read(SOURCE, "ideal", ANSWER)))
    assert first.question == "How much does this diamond cost?\ncolour E, clarity SI2, 3.95 mm wide, 0.23 carat"
    assert (first.answer, first.score, first.line) == ("Price is $0.3 thousand", 0.326, 2)


def test_the_cuts_are_the_regions() -> None:
    assert sorted(set(diamonds.regions(SOURCE))) == ["fair", "good", "ideal", "premium", "very-good"]


def test_a_cut_is_read_whole_and_without_problems() -> None:
    found = list(diamonds.read(SOURCE, "fair", ANSWER))
    assert len(found) == 1610
    assert {example.problem for example in found} == {None}


def test_a_stone_that_is_listed_twice_is_one_group() -> None:
    found = list(diamonds.read(SOURCE, "fair", ANSWER))
    assert len({example.group for example in found}) == pytest.approx(1493, abs=5)
