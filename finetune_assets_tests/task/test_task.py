from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune_assets.errors import TaskError
from finetune_assets.task import SPLITS, Prompt, Sampling, Task, read_task, task_names
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.component_file import TYPE
from finetune_assets.task.sources import ElpvSource, LocatedSource

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
    assert made.sampling.seed == 42
    assert made.answer == BinaryAnswer(kind="binary", positive="Yes", negative="No")
    assert (made.provider, made.budget_usd, made.rerun, made.method.n_epochs) == ("local", None, None, "auto")


def test_an_unknown_key_is_refused_by_name() -> None:
    assert refused(modell="gpt-4o") == "modell: Extra inputs are not permitted"
    assert refused(method={"n_epoch": 3}) == "method.n_epoch: Extra inputs are not permitted"


def test_a_budget_is_one_for_each_region_or_has_their_names() -> None:
    assert [task(budget_usd=5).budget_of(region) for region in ("mono", "poly")] == [5, 5]
    assert [task(budget_usd={"mono": 2}).budget_of(region) for region in ("mono", "poly")] == [2, 0]
    assert [task(budget_usd={"mono": 2, "*": 1}).budget_of(region) for region in ("mono", "poly")] == [2, 1]
    assert [task(budget_usd={"mono": None, "*": 1}).budget_of(region) for region in ("mono", "poly")] == [None, 1]
    assert task().budget_of("mono") is None


def test_a_wrong_budget_names_what_was_found() -> None:
    assert "budget_usd names 'thin', which is none of the regions" in refused(budget_usd={"thin": 2})
    assert "budget_usd.each: Input should be greater than or equal to 0" in refused(budget_usd=-1)
    assert "budget_usd.regions.mono: Input should be a valid number" in refused(budget_usd={"mono": "much"})


def test_costs_and_prices_are_as_strict_as_the_rest() -> None:
    used = {"requests_per_month": 1000, "retrieved_tokens": 500}
    made = task(costs=used, prices={"training": 3, "base": {"input": 1, "output": 2}})
    assert made.costs is not None and (made.costs.horizon_months, made.costs.data) == (12, "static")
    assert "costs.request_per_month: Extra inputs" in refused(costs=used | {"request_per_month": 1})
    assert "costs.data: Input should be 'static' or 'dynamic'" in refused(costs=used | {"data": "fluid"})
    assert "prices.fine_tuned.output: Field required" in refused(prices={"fine_tuned": {"input": 1}})


@pytest.mark.parametrize("name", ["Mono", "a b", "../x", "", "-a", "a" * 65])
def test_names_that_could_not_be_folders_are_refused(name: str) -> None:
    assert "regions.names.0" in refused(regions=[name])
    assert "task" in refused(task=name)


def test_what_yaml_makes_of_an_unquoted_word_is_refused_with_what_to_do() -> None:
    assert "put the word in quotes" in refused(answer={"kind": "binary", "positive": True, "negative": False})
    assert "put the word in quotes" in refused(answer={"kind": "choice", "options": ["left", False]})
    assert 'put it in quotes: "1"' in refused(regions=[1, 2])


def test_a_region_in_the_data_s_own_spelling_is_refused_with_the_task_s() -> None:
    assert "regions.names.0: Value error, must be lower case without spaces: `R2A` in" in refused(regions=["R2A"])


def test_regions_are_unique_and_not_none() -> None:
    assert "regions must be unique" in refused(regions=["mono", "mono"])
    assert "regions" in refused(regions=[])


def test_a_source_is_told_by_its_kind() -> None:
    assert "source" in refused(source={"kind": "unheard_of"})
    assert "source.scored_images.path: Field required" in refused(source={"kind": "scored_images"})


@pytest.mark.parametrize("ways", [{}, {"region_field": "organ", "region_pattern": "^(.)"}])
def test_image_questions_name_their_region_in_exactly_one_way(ways: dict[str, str]) -> None:
    source = {"kind": "image_qa", "path": "qa.json", "images": "images", **ways}
    assert (
        "exactly one of region, region_field, region_from_path, region_from_question, region_pattern must"
        in refused(source=source)
    )


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
        answer={"kind": "binary", "positive": "yes", "negative": "Yes"}
    )


@pytest.mark.parametrize(
    "method", [{"n_epochs": 0}, {"n_epochs": 51}, {"batch_size": 257}, {"type": "dpo"}, {"seed": -1}]
)
def test_hyperparameters_outside_the_protocols_bounds_are_refused(method: dict[str, object]) -> None:
    assert next(iter(method)) in refused(method=method)


def test_regions_may_be_discovered_in_the_data() -> None:
    assert task(regions="discover").regions == "discover"
    assert refused(regions="discovered") == "regions.discover: Input should be 'discover'"
    assert refused(regions="mono") == "regions.names: Input should be a valid list"


@pytest.mark.parametrize(
    ("source", "answer", "message"),
    [
        ({"kind": "elpv"}, {"kind": "text"}, "source elpv has binary answers, not text"),
        ({"kind": "diamonds"}, {"kind": "binary"}, "source diamonds has number answers, not binary"),
        ({"kind": "science_facts"}, {"kind": "number"}, "source science_facts has text answers, not number"),
        (
            {"kind": "scored_images", "path": "t.csv"},
            {"kind": "text"},
            "source scored_images has binary or number answers, not text",
        ),
        (
            {"kind": "table", "path": "t.csv", "support": "{why}"},
            {"kind": "binary"},
            "source.support explains a text answer, and answer.kind is binary",
        ),
    ],
)
def test_a_source_that_has_no_such_answers_is_refused(
    source: dict[str, str], answer: dict[str, str], message: str
) -> None:
    assert message in refused(source=source, answer=answer)


def test_the_yaml_file_s_folder_is_remembered_and_is_no_part_of_what_the_task_says(tmp_path: Path) -> None:
    made = task(source={"kind": "scored_images", "path": "t.csv"})
    moved = made.beside(tmp_path)
    assert isinstance(made.source, LocatedSource) and isinstance(moved.source, LocatedSource)
    assert (made.source.folder, moved.source.folder) == (None, tmp_path)
    assert made.model_dump_json() == moved.model_dump_json()


def test_a_task_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "solar_cells").mkdir()
    attributes = yaml.safe_load(MINIMAL) | {"source": {"kind": "scored_images", "path": "t.csv"}}
    (tmp_path / "solar_cells/defs.yaml").write_text(yaml.safe_dump({"type": TYPE, "attributes": attributes}))
    read = read_task("solar_cells", tmp_path)
    assert isinstance(read.source, LocatedSource) and read.source.folder == tmp_path / "solar_cells"
    assert task_names(tmp_path) == ["solar_cells"]


def test_a_wrong_file_is_named_with_the_field_and_not_repeated_whole(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    attributes = yaml.safe_load(MINIMAL) | {"regions": ["Mono"]}
    del attributes["answer"]
    (tmp_path / "cells/defs.yaml").write_text(yaml.safe_dump({"type": TYPE, "attributes": attributes}))
    with pytest.raises(TaskError) as caught:
        read_task("cells", tmp_path)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{tmp_path}/cells/defs.yaml:1: answer: is missing; write `answer: {{kind: ...}}`")
    assert second.startswith(f"{tmp_path}/cells/defs.yaml:4: regions[0]: must be lower case")
    assert second.endswith(", got 'Mono'; write mono")


def test_a_task_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        task().provider = "openai"  # pyright: ignore[reportAttributeAccessIssue]


def test_true_and_false_are_no_numbers() -> None:
    assert "sampling.seed: Input should be a valid integer" in refused(
        sampling={"train": 9, "validation": 9, "calibration": 9, "test": 9, "seed": True}
    )
    assert task(filtering={"personal_data": True}).filtering.personal_data


ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"


def test_only_azure_deploys() -> None:
    deployment = {"account": f"{ACCOUNT}/", "sku": "Standard"}
    made = task(provider="azure", deployment=deployment).deployment
    assert made and (made.account, made.group_and_name, made.capacity) == (ACCOUNT, ("g", "a"), 50)
    assert "deployment is for the provider azure, not for local: leave it out" in refused(deployment=deployment)


def test_hyperparameters_that_openai_does_not_know_are_for_others() -> None:
    method = {"n_epochs": 9, "lora_r": 32, "packing": True}
    assert task(method=method).method.beyond_openai == {"lora_r": 32, "packing": True}
    assert "method.lora_r is nothing that openai knows: leave it out" in refused(provider="openai", method=method)
    assert "method.lora_dropout" in refused(method={"lora_dropout": 1})


def test_reinforcement_is_for_answers_that_are_words_and_trained_where_it_is_not_paid_by_the_hour() -> None:
    method = {"type": "reinforcement", "compute_multiplier": 0.5}
    assert task(method=method).method.compute_multiplier == 0.5
    said = refused(method=method, source={"kind": "table", "path": "t.csv"}, answer={"kind": "text"})
    assert "answer.kind must be binary, choice or score, got text: train it supervised" in said
    assert "paid by the hour at openai" in refused(provider="openai", method=method)
    assert "packing is not for the type reinforcement: leave it out" in refused(method=method | {"packing": True})
    assert "beta is not for the type supervised: leave it out" in refused(method={"beta": 0.1})


@pytest.mark.parametrize("account", ["a", f"https://management.azure.com{ACCOUNT}", f"{ACCOUNT}/deployments/d", ""])
def test_an_account_is_named_by_its_resource_id(account: str) -> None:
    said = refused(provider="azure", deployment={"account": account, "sku": "Standard"})
    assert "deployment.account: Value error, account must be the resource ID, /subscriptions/ID/" in said


def test_what_costs_by_the_hour_is_chosen_and_not_assumed() -> None:
    assert "deployment.sku: Field required" in refused(provider="azure", deployment={"account": ACCOUNT})
