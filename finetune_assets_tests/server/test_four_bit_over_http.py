"""A name of `models.yaml` in 4 bit, from the list of models to a fine-tuned one that answers after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from finetune_assets_tests.server.conftest import training_lines, upload, wait
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.tiny_models import write_text_model

pytest.importorskip("bitsandbytes")


def test_a_model_in_4_bit_is_listed_trained_and_answers_the_same_after_a_restart(tmp_path: Path) -> None:
    small = {"model": str(write_text_model(tmp_path / "model")), "load_in_4bit": True}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"small": small}))
    said = []
    with ServerProcess(tmp_path) as server:
        client = server.client()
        job = client.fine_tuning.jobs.create(
            model="small", training_file=upload(client, training_lines()), seed=1,
            hyperparameters={"n_epochs": 3, "learning_rate_multiplier": 20},
        )  # fmt: skip
        job = wait(client, job.id)
        assert job.status == "succeeded", job.error
        events = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
        assert any("linear layers in 4 bit" in message for message in events)
        listed = {model.id: model.model_dump().get("load_in_4bit") for model in client.models.list()}
        assert listed["small"] is listed[job.fine_tuned_model or ""] is True
        assert listed["smollm2-135m-instruct"] is None
    for _ in range(2):
        with ServerProcess(tmp_path) as server:
            answer = server.client().chat.completions.create(
                model=job.fine_tuned_model or "", messages=[{"role": "user", "content": "Is 3 fine?"}], temperature=0,
                logprobs=True, max_tokens=4,
            )  # fmt: skip
            said.append((answer.choices[0].message.content, [t.logprob for t in answer.choices[0].logprobs.content]))  # pyright: ignore
    assert said[0] == said[1]
    assert said[0][0] == "Yes"
