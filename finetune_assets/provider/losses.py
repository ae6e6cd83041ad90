"""What a job reports of its training: losses by step, from its result files or its events, and its checkpoints."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai
from openai.types.fine_tuning import FineTuningJobEvent

from finetune_assets.errors import ProviderError
from finetune_assets.provider.client import Client, explained, is_lacking
from finetune_assets.provider.fine_tuning import PAGE, Job
from finetune_assets.provider.once import ATTEMPTS

if TYPE_CHECKING:
    import pandas as pd

LOSS_COLUMNS = (
    *("step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "full_valid_loss"),
    *("full_valid_accuracy", "train_reward", "valid_reward"),
)
"""Of a loss table; losses in nats per token, accuracies of the next token, 0 to 1, mean rewards as the grader gives
them (reinforcement)."""

_SPELLINGS = {
    "training_loss": "train_loss",
    "train_mean_token_accuracy": "train_accuracy",
    "validation_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_accuracy",
    "validation_mean_token_accuracy": "valid_accuracy",
    "full_validation_loss": "full_valid_loss",
    "full_valid_mean_token_accuracy": "full_valid_accuracy",
    "full_validation_mean_token_accuracy": "full_valid_accuracy",
    "train_reward_mean": "train_reward",
    "train_mean_reward": "train_reward",
    "valid_reward_mean": "valid_reward",
    "full_valid_mean_reward": "valid_reward",
}
"""Result files and events of OpenAI and of Azure call the same columns by different names."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as it was at one step of a job."""

    id: str
    model: str
    """What to ask for its answers."""
    step: int
    train_loss: float | None
    valid_loss: float | None
    """Over the whole validation file where the provider says, else over one batch of it."""


def events_of(client: Client, job: Job) -> list[FineTuningJobEvent]:
    """Return all events of a job, newest first.

    Raises:
        ProviderError: the provider does not answer.
    """
    with explained(client):
        return list(client.fine_tuning.jobs.list_events(job.id, limit=PAGE))


def training_seconds(job: Job, events: Sequence[FineTuningJobEvent]) -> int:
    """Return how long the job trained: since the event that says so, or since its creation where there is none."""
    started = [event.created_at for event in events if event.message == "Fine-tuning job started"]
    return (job.finished_at or job.created_at) - (started[0] if started else job.created_at)


def loss_table(client: Client, job: Job, events: Sequence[FineTuningJobEvent]) -> pd.DataFrame:
    """Return one row a step with the columns `LOSS_COLUMNS`, in order of the steps.

    NaN is a value that was not measured; a loss that was measured and is no number is infinite. From the job's result
    files, plain or in base64, and from its events, which alone tell the loss over the whole validation file.

    Raises:
        ProviderError: the provider does not answer, or a result file is not a table of steps.
    """
    import pandas as pd

    with explained(client):
        rows = [row for file_id in job.result_files for row in _read_csv(client, file_id)]
    rows += [event.data for event in events if event.type == "metrics" and isinstance(event.data, dict)]
    named = [{_SPELLINGS.get(name, name): _number(value) for name, value in row.items()} for row in rows]
    table = pd.DataFrame(named, columns=list(LOSS_COLUMNS), dtype=float)
    # A step may be told of in a file and an event, of which either may say more.
    table = table.dropna(subset="step").groupby("step", as_index=False).last()
    table["step"] = table["step"].astype(int)
    for name in ("train_loss", "valid_loss", "full_valid_loss"):
        # No loss is negative: Azure writes -1 where nothing was measured.
        table[name] = table[name].where(~(table[name] < 0))
    return table


def checkpoints(client: Client, job: Job) -> tuple[Checkpoint, ...] | None:
    """Return the checkpoints of a job that can be asked, in order of their steps; None if the provider keeps none.

    Raises:
        ProviderError: the provider does not answer.
    """
    with explained(client):
        try:
            listed = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=PAGE))
        except openai.APIStatusError as error:
            if is_lacking(error):
                return None
            raise
    made = [
        Checkpoint(
            found.id,
            found.fine_tuned_model_checkpoint,
            found.step_number,
            found.metrics.train_loss,
            found.metrics.valid_loss if found.metrics.full_valid_loss is None else found.metrics.full_valid_loss,
        )
        for found in listed
    ]
    return tuple(sorted(made, key=lambda checkpoint: checkpoint.step))


def checkpoint_at(found: tuple[Checkpoint, ...] | None, job: Job, step: int) -> Checkpoint:
    """Return the checkpoint at a step.

    Raises:
        ProviderError: there is none; the message says at which steps there are.
    """
    for checkpoint in found or ():
        if checkpoint.step == step:
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in found or ())
    there = f"there are some at the steps {steps}" if steps else "its provider offers none"
    raise ProviderError(
        f"job {job.id} has no checkpoint at step {step}: {there}. "
        "Change checkpoint_step in the run's config, or leave it out for the model at the end"
    )


def _read_csv(client: Client, file_id: str) -> Iterator[dict[str, str]]:
    content = _whole(client, file_id)
    try:
        text = _plain(content).decode("utf-8-sig")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ProviderError(f"result file {file_id} is neither CSV nor CSV in base64: {error}") from error
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    if "step" not in (rows.fieldnames or ()):
        raise ProviderError(f"result file {file_id} has no column 'step', only {rows.fieldnames}")
    return rows


def _whole(client: Client, file_id: str) -> bytes:
    """Read a file of the size that its provider states, or twice the same where that counts something else.

    A table that was cut on its way is still a table.
    """
    size, before = client.files.retrieve(file_id).bytes, None
    for _ in range(ATTEMPTS):
        content = client.files.content(file_id).read()
        if content == before or len(content) == size:
            return content
        before = content
    raise ProviderError(
        f"result file {file_id} does not come whole: {size} bytes are announced, {len(before or b'')} came"
    )


def _plain(content: bytes) -> bytes:
    """OpenAI serves the CSV in base64, others as it is. A comma is in every table and never in base64."""
    return content if b"," in content else base64.b64decode(content, validate=False)


def _number(value: Any) -> float:
    if value is None or value == "":
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return math.inf if math.isnan(number) else number
