"""A training and its money as a person sees them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from finetune_assets.evaluation.retrieval_costs import compare
from finetune_assets.pipeline.shown import model_views
from finetune_assets.provider.losses import LOSS_COLUMNS, Checkpoint
from finetune_assets.provider.pricing import prices_of
from finetune_assets.task.costs import Prices
from finetune_assets_tests.pipeline.tasks import make_task

COSTS = {"requests_per_month": 100_000, "retrieved_tokens": 1500}


def steps(n: int) -> pd.DataFrame:
    """A table of n steps; the whole validation file is measured at every tenth."""
    step = np.arange(1, n + 1)
    full = np.where(step % 10 == 0, 1.0, np.nan)
    columns = {"step": step, "train_loss": 2.0 / step, "full_valid_loss": full}
    return pd.DataFrame(columns, columns=list(LOSS_COLUMNS)).astype(dict.fromkeys(LOSS_COLUMNS[1:], float))


def test_without_losses_there_is_a_sentence_and_no_picture() -> None:
    shown = model_views.curves(steps(0))
    assert {name: text.value for name, text in shown.items()} == {"loss_curve": "The provider reported no losses."}


def test_a_loss_that_is_no_number_does_not_spoil_the_picture() -> None:
    broken = steps(12).assign(train_loss=[1.0, np.inf, *[0.5] * 10])
    assert "iVBOR" in (model_views.curves(broken)["loss_curve"].value or "")


def test_the_table_of_steps_has_the_first_and_the_last_step_and_those_of_the_whole_validation_file() -> None:
    shown = (model_views.curves(steps(200))["steps"].value or "").splitlines()
    assert shown[0] == "| step | train_loss | full_valid_loss |"
    listed = [int(line.split("|")[1]) for line in shown[2:] if line.startswith("|")]
    assert listed[0] == 1 and listed[-1] == 200 and {150, 160, 170, 180, 190} <= set(listed)
    assert len(listed) <= model_views.N_STEPS and shown[-1] == f"{len(listed)} of 200 steps; the Parquet file has all."


def test_a_training_by_rewards_shows_its_rewards() -> None:
    rewarded = steps(40).assign(train_loss=np.nan, full_valid_loss=np.nan, train_reward=np.linspace(-0.5, 1, 40))
    rewarded.loc[rewarded["step"] % 10 == 0, "valid_reward"] = 0.5
    shown = model_views.curves(rewarded)
    assert set(shown) == {"reward_curve", "steps"} and "iVBOR" in (shown["reward_curve"].value or "")
    assert (shown["steps"].value or "").startswith("| step | train_reward | valid_reward |")


def test_a_short_training_is_shown_whole() -> None:
    assert len((model_views.curves(steps(12))["steps"].value or "").splitlines()) == 2 + 12


def test_checkpoints_say_which_one_is_taken_and_how_to_take_another() -> None:
    found = [
        Checkpoint("ftckpt-20", "ft:m:ckpt-step-20", 20, 0.5, None),
        Checkpoint("ftckpt-40", "ft:m", 40, 0.25, 0.5),
    ]
    shown = model_views.checkpoints(found, 20).value or ""
    assert "| 20 | ftckpt-20 | 0.5 |  | ft:m:ckpt-step-20 | taken |" in shown
    assert "| 40 | ftckpt-40 | 0.25 | 0.5 | ft:m |  |" in shown and "`checkpoint_step`" in shown


def test_a_provider_without_checkpoints_is_said_to_have_none() -> None:
    assert "offers no checkpoints" in (model_views.checkpoints(None, None).value or "")
    assert "left no checkpoints" in (model_views.checkpoints((), None).value or "")


def test_prices_are_shown_with_their_day_and_source_and_the_unknown_as_unknown() -> None:
    known = model_views.prices(prices_of(make_task(provider="openai"))).value or ""
    assert "| training | 25 |" in known and "| fine-tuned model, cached input | 1.875 |" in known
    assert "https://developers.openai.com/api/docs/pricing, 2026-08-05" in known
    unknown = model_views.prices(Prices()).value or ""
    assert "| training | unknown |" in unknown and "`prices` in the task's YAML" in unknown
    hosted = model_views.prices(Prices(training=1, hosting_usd_per_hour=1.7)).value or ""
    assert "| base model, input | unknown |" in hosted and "Hosting: 1.7 USD an hour." in hosted


def test_fine_tuning_against_retrieval_is_advice_figures_and_a_picture() -> None:
    task = make_task(provider="openai", base_model="gpt-4o-mini-2024-07-18", costs=COSTS)
    assert task.costs is not None
    found = compare(task.costs, prices_of(task), training_usd=30, prompt_tokens=100, answer_tokens=50)
    assert found is not None
    shown = model_views.fine_tuning_or_retrieval(task, found)["fine_tuning_or_retrieval"].value or ""
    assert shown.startswith("Fine-tune: over 12 months") and "| USD after 12 months | 138.00 | 324.00 |" in shown
    assert "| Break-even, requests a month | 13,889 |  |" in shown and "](data:image/png;base64,iVBOR" in shown
    section = model_views.comparison_section(found)
    assert "<td>USD after 12 months</td><td>138.00</td><td>324.00</td>" in section and "iVBOR" in section


def test_a_task_that_does_not_ask_is_shown_nothing_and_unknown_prices_are_said() -> None:
    assert model_views.fine_tuning_or_retrieval(make_task(), None) == {}
    shown = model_views.fine_tuning_or_retrieval(make_task(costs=COSTS, provider="https://host/v1"), None)
    assert "at https://host/v1 are not known" in (shown["fine_tuning_or_retrieval"].value or "")
