"""Losses and checkpoints, however a provider spells them."""

from __future__ import annotations

import base64
import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_assets.errors import ProviderError
from finetune_assets.provider import fine_tuning, losses
from finetune_assets.provider.once import ATTEMPTS
from finetune_assets_tests.scripted_provider import ScriptedProvider

OPENAI = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n2,0.5,0.75,,\n1,1.5,0.25,1.25,0.5\n"
AZURE = (
    b"\xef\xbb\xbfstep,train_loss,train_mean_token_accuracy,validation_loss,validation_mean_token_accuracy,"
    b"full_valid_loss,full_valid_mean_token_accuracy\r\n"
    b"1,1.5,0.25,1.25,0.5,-1,-1\r\n2,0.5,0.75,,,0.75,0.875\r\n"
)


def table_of(provider: ScriptedProvider, *contents: bytes) -> pd.DataFrame:
    """The losses of a job with these result files."""
    names = [f"file-{number}" for number in range(len(contents))]
    provider.contents.update(zip(names, contents, strict=True))
    provider.add_job("ftjob-1", "succeeded", result_files=names)
    client = provider.client()
    job = fine_tuning.retrieve(client, "ftjob-1")
    return losses.loss_table(client, job, losses.events_of(client, job))


@pytest.mark.parametrize("content", [OPENAI, base64.b64encode(OPENAI), base64.encodebytes(OPENAI)])
def test_result_files_are_read_plain_and_in_base64(provider: ScriptedProvider, content: bytes) -> None:
    table = table_of(provider, content)
    assert tuple(table.columns) == losses.LOSS_COLUMNS
    assert table["step"].tolist() == [1, 2]
    assert table["train_loss"].tolist() == [1.5, 0.5]
    assert table["valid_accuracy"].isna().tolist() == [False, True]


@pytest.mark.parametrize("content", [AZURE, base64.b64encode(AZURE)])
def test_azure_s_columns_have_our_names_and_what_it_did_not_measure_is_absent(
    provider: ScriptedProvider, content: bytes
) -> None:
    table = table_of(provider, content)
    assert table["train_accuracy"].tolist() == [0.25, 0.75]
    assert table["valid_loss"].tolist()[0] == 1.25 and table["full_valid_loss"].isna().tolist() == [True, False]
    assert table["full_valid_accuracy"].tolist()[1] == 0.875


def test_rewards_are_read_from_result_files_and_events(provider: ScriptedProvider) -> None:
    provider.add_step("ftjob-1", step=2, train_mean_reward=0.5, full_valid_mean_reward=0.75)
    table = table_of(provider, b"step,train_reward_mean,valid_reward_mean\n1,0.25,\n")
    assert table["train_reward"].tolist() == [0.25, 0.5]
    assert table["valid_reward"].isna().tolist() == [True, False]


def test_a_loss_that_is_no_number_is_told_from_one_that_was_not_measured(provider: ScriptedProvider) -> None:
    table = table_of(provider, b"step,train_loss,valid_loss\n1,1.5,\n2,nan,inf\n3,NaN,\n")
    assert table["train_loss"].tolist() == [1.5, math.inf, math.inf]
    assert table["valid_loss"].isna().tolist() == [True, False, True]


def test_several_files_are_one_table(provider: ScriptedProvider) -> None:
    table = table_of(provider, b"step,train_loss\n3,1\n4,0.5\n", b"step,train_loss\n1,3\n2,2\n")
    assert table["train_loss"].tolist() == [3, 2, 1, 0.5]


@pytest.mark.parametrize("counts_bytes", [True, False])
def test_a_file_that_was_cut_on_its_way_is_fetched_again(provider: ScriptedProvider, counts_bytes: bool) -> None:
    provider.counts_bytes = counts_bytes
    provider.cuts = 2
    assert len(table_of(provider, OPENAI)) == 2
    assert provider.asked["content"] == (3 if counts_bytes else 4)


def test_a_file_that_never_comes_whole_is_named(provider: ScriptedProvider) -> None:
    provider.cuts = ATTEMPTS
    with pytest.raises(ProviderError, match="result file file-0 does not come whole"):
        table_of(provider, OPENAI * 50)


@pytest.mark.parametrize("content", [b"<html>gone, moved</html>", b"a,b\n1,2\n", b"\xff\xfe\x00,", b""])
def test_a_file_that_is_no_table_of_steps_is_named(provider: ScriptedProvider, content: bytes) -> None:
    with pytest.raises(ProviderError, match="result file file-0"):
        table_of(provider, content)


numbers = st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 5))


@given(rows=st.lists(st.tuples(numbers, st.none() | numbers), min_size=1, max_size=30), encoded=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_what_was_written_is_what_is_read(
    provider: ScriptedProvider, rows: list[tuple[float, float | None]], encoded: bool
) -> None:
    lines = [f"{step},{train},{'' if valid is None else valid}" for step, (train, valid) in enumerate(rows, start=1)]
    content = "\n".join(["step,train_loss,valid_loss", *lines]).encode()
    table = table_of(provider, base64.b64encode(content) if encoded else content)
    assert table["train_loss"].tolist() == [train for train, _ in rows]
    read = [None if math.isnan(valid) else valid for valid in table["valid_loss"]]
    assert read == [valid for _, valid in rows]


def test_without_result_files_the_losses_come_from_the_events(provider: ScriptedProvider) -> None:
    for step in range(1, 151):
        provider.add_step("ftjob-1", step=step, train_loss=1 / step, train_mean_token_accuracy=0.5)
    table = table_of(provider)
    assert table["step"].tolist() == list(range(1, 151))
    assert set(table["train_accuracy"]) == {0.5}


def test_the_loss_over_the_whole_validation_file_comes_from_the_events(provider: ScriptedProvider) -> None:
    provider.add_step("ftjob-1", step=1, train_loss=1.5, valid_loss=1.25, full_valid_loss=1.0)
    provider.add_step("ftjob-1", step=2, train_loss=0.5)
    table = table_of(provider, OPENAI)
    assert table["train_accuracy"].tolist() == [0.25, 0.75]
    assert table["full_valid_loss"].tolist()[0] == 1.0 and table["full_valid_loss"].isna().tolist()[1]


def test_a_training_takes_from_the_event_that_it_started_to_its_end(provider: ScriptedProvider) -> None:
    client = provider.client()
    provider.add_job("ftjob-1", "succeeded", finished_at=1_800_000_090)
    job = fine_tuning.retrieve(client, "ftjob-1")
    assert losses.training_seconds(job, losses.events_of(client, job)) == 90
    provider.add_step("ftjob-1", step=1)
    provider.events["ftjob-1"][0] |= {"message": "Fine-tuning job started", "created_at": 1_800_000_030}
    assert losses.training_seconds(job, losses.events_of(client, job)) == 60


def test_a_job_that_reported_nothing_has_an_empty_table(provider: ScriptedProvider) -> None:
    table = table_of(provider)
    assert table.empty and tuple(table.columns) == losses.LOSS_COLUMNS


def checkpoints_of(provider: ScriptedProvider) -> tuple[losses.Checkpoint, ...] | None:
    provider.add_job("ftjob-1", "succeeded")
    client = provider.client()
    return losses.checkpoints(client, fine_tuning.retrieve(client, "ftjob-1"))


def test_checkpoints_come_in_order_of_their_steps_with_the_better_known_loss(provider: ScriptedProvider) -> None:
    provider.add_checkpoint("ftjob-1", 20, train_loss=0.5, valid_loss=0.75)
    provider.add_checkpoint("ftjob-1", 40, train_loss=0.25, valid_loss=0.75, full_valid_loss=1.0)
    found = checkpoints_of(provider)
    assert found is not None
    assert [(one.step, one.train_loss, one.valid_loss) for one in found] == [(20, 0.5, 0.75), (40, 0.25, 1.0)]
    assert found[0].model == "ft:ftjob-1:ckpt-step-20"


def test_a_provider_without_checkpoints_is_no_error(provider: ScriptedProvider) -> None:
    assert checkpoints_of(provider) is None


@pytest.mark.parametrize(("steps", "words"), [((20, 40), "some at the steps 20, 40"), ((), "its provider offers none")])
def test_a_checkpoint_that_is_not_there_is_refused_with_those_that_are(
    provider: ScriptedProvider, steps: tuple[int, ...], words: str
) -> None:
    for step in steps:
        provider.add_checkpoint("ftjob-1", step)
    found, job = checkpoints_of(provider), fine_tuning.retrieve(provider.client(), "ftjob-1")
    with pytest.raises(ProviderError, match=f"no checkpoint at step 30: there are {words}|{words}"):
        losses.checkpoint_at(found, job, 30)
