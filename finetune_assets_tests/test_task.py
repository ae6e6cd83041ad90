from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune_assets.task import SPLITS, ElpvSource, Prompt, Sampling, Task

MINIMAL = """
task: solar_cells
regions: [mono, poly]
source: {kind: elpv}
sampling: {train: 0.30, validation: 0.05, calibration: 0.12, test: 0.18}
answer: {kind: binary}
base_model: gpt-4o-2024-08-06
"""


def task(**changes: Any) -> Task:
    return Task.model_validate(yaml.safe_load(MINIMAL) | changes)


def refused(**changes: Any) -> str:
    """The fields and messages of the refusal."""
    with pytest.raises(ValidationError) as error:
        task(**changes)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.value.errors())


def test_a_short_yaml_is_completed_with_defaults() -> None:
    made = task()
    assert made.source == ElpvSource(kind="elpv", question="Is this cell defective?")
    assert (made.sampling.seed, made.answer.positive, made.answer.negative) == (42, "Yes", "No")
    assert (made.provider, made.budget_usd, made.rerun, made.method.n_epochs) == ("local", None, None, "auto")


def test_an_unknown_key_is_refused_by_name() -> None:
    assert refused(modell="gpt-4o") == "modell: Extra inputs are not permitted"
    assert refused(method={"n_epoch": 3}) == "method.n_epoch: Extra inputs are not permitted"


@pytest.mark.parametrize("name", ["Mono", "a b", "../x", "", "-a", "a" * 65])
def test_names_that_could_not_be_folders_are_refused(name: str) -> None:
    assert "regions.0" in refused(regions=[name])
    assert "task" in refused(task=name)


def test_regions_are_unique_and_not_none() -> None:
    assert "regions must be unique" in refused(regions=["mono", "mono"])
    assert "regions" in refused(regions=[])


def test_a_source_is_told_by_its_kind() -> None:
    assert "source" in refused(source={"kind": "unheard_of"})
    assert "source.scored_images.path: Field required" in refused(source={"kind": "scored_images"})


@pytest.mark.parametrize("ways", [{}, {"region_field": "organ", "region_pattern": "^(.)"}])
def test_image_questions_name_their_region_in_exactly_one_way(ways: dict[str, str]) -> None:
    source = {"kind": "image_qa", "path": "qa.json", "images": "images", **ways}
    assert "exactly one of region_field and region_pattern" in refused(source=source)


@given(st.tuples(*[st.floats(0.001, 1)] * 4))
def test_shares_may_add_up_to_one_and_not_more(shares: tuple[float, ...]) -> None:
    amounts = dict(zip(SPLITS, shares, strict=True))
    if sum(shares) > 1.000001:
        with pytest.raises(ValidationError, match="shares must add up to at most 1"):
            Sampling.model_validate(amounts)
    elif sum(shares) < 0.999999:
        assert Sampling.model_validate(amounts).amounts == amounts


def test_whole_numbers_throughout_are_counts() -> None:
    assert Sampling(train=300, validation=50, calibration=100, test=150).by_count
    assert not Sampling(train=0.3, validation=0.1, calibration=0.1, test=0.1).by_count
    with pytest.raises(ValidationError, match="use whole numbers throughout for counts"):
        Sampling(train=300, validation=50, calibration=100, test=0.5)


def test_a_prompt_must_ask_the_question() -> None:
    with pytest.raises(ValidationError, match="user must contain"):
        Prompt(user="Answer Yes or No.")


def test_the_two_answers_must_differ() -> None:
    assert "positive and negative must differ" in refused(
        answer={"kind": "binary", "positive": "yes", "negative": " Yes"}
    )


@pytest.mark.parametrize(
    "method", [{"n_epochs": 0}, {"n_epochs": 51}, {"batch_size": 257}, {"type": "dpo"}, {"seed": -1}]
)
def test_hyperparameters_outside_the_protocols_bounds_are_refused(method: dict[str, object]) -> None:
    assert next(iter(method)) in refused(method=method)


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        task().provider = "openai"  # pyright: ignore[reportAttributeAccessIssue]
