"""A job on the wire, in every state it can be in."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai.types.fine_tuning import FineTuningJob

from finetune_assets.server.api.job_format import as_job
from finetune_assets.server.database.jobs import FINAL, OPEN
from finetune_assets.server.database.stores import Stores
from finetune_assets_tests.server.database.test_job_life import make_job


@pytest.mark.parametrize("status", [*OPEN, *FINAL])
@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_every_state_has_the_shape_that_openai_documents(tmp_path: Path, status: str, method: str) -> None:
    job = make_job(Stores(tmp_path), method=method, hyperparameters={"n_epochs": "auto", "beta": 0.5})
    job.status = status
    answer = as_job(job)
    assert FineTuningJob.model_validate_json(answer.model_dump_json()) == answer
    assert answer.fine_tuned_model == (job.tuned_model if status == "succeeded" else None)
    assert answer.method is not None
    assert answer.method.type == method


def test_paused_is_said_though_the_type_does_not_know_it(tmp_path: Path) -> None:
    job = make_job(Stores(tmp_path))
    job.status = "paused"
    assert as_job(job).model_dump(warnings=False)["status"] == "paused"
