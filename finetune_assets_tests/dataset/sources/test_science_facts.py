from collections import defaultdict

import pytest

from finetune_assets.dataset.example import Example
from finetune_assets.dataset.sources import science_facts
from finetune_assets.errors import SourceError
from finetune_assets.task.answers import TextAnswer
from finetune_assets.task.sources import ScienceFactsSource

SOURCE = ScienceFactsSource(kind="science_facts")
SCIENCES = ("physics", "chemistry", "biology")


def read(region: str) -> list[Example]:
    pytest.importorskip({"physics": "scipy", "chemistry": "mendeleev", "biology": "Bio"}[region])
    return list(science_facts.read(SOURCE, region, TextAnswer(kind="text")))


@pytest.mark.parametrize("region", SCIENCES)
def test_each_science_has_hundreds_of_questions_about_over_a_hundred_things(region: str) -> None:
    found = read(region)
    assert len(found) > 390 and len({example.group for example in found}) > 100
    assert [example.problem for example in found if example.problem] == []
    assert len({example.question for example in found}) == len({example.id for example in found}) == len(found)


@pytest.mark.parametrize("region", SCIENCES)
def test_every_answer_is_short_and_explained_in_a_sentence(region: str) -> None:
    for example in read(region):
        short, explanation = (example.answer or "").split(" Explanation: ")
        assert 0 < len(short) < 60 and explanation.endswith(".")


@pytest.mark.parametrize("region", SCIENCES)
def test_the_questions_are_the_same_every_time(region: str) -> None:
    assert read(region) == read(region)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("physics", "J K^-1 Explanation: CODATA gives the Boltzmann constant as about 1.381e-23 J K^-1."),
        ("physics", "none, it is a number Explanation: CODATA gives the muon g factor as about -2.002."),
        ("physics", "metres Explanation: One foot is about 0.3048 metres."),
        ("biology", "methionine Explanation: In the standard genetic code AUG encodes"),
        ("biology", "W Explanation: The amino acid tryptophan is written W or Trp."),
    ],
)
def test_facts_are_those_of_the_tables(region: str, said: str) -> None:
    [answer] = [example.answer or "" for example in read(region) if (example.answer or "").startswith(said)]
    assert answer


def test_what_is_about_one_thing_is_one_group() -> None:
    by_group = defaultdict(list)
    for example in read("chemistry"):
        by_group[example.group].append(example)
    assert len(by_group) == 118
    assert {len(examples) for examples in by_group.values()} == {4}
    answers = {(example.answer or "").split(" Explanation: ")[0] for example in by_group["chemistry/iron"]}
    assert answers == {"Fe", "iron", "transition metals", "period 4, d block"}


def test_a_science_that_there_is_not_is_refused() -> None:
    with pytest.raises(SourceError, match="has the regions physics, chemistry, biology, not alchemy"):
        list(science_facts.read(SOURCE, "alchemy", TextAnswer(kind="text")))
