"""/v1/models over HTTP, through the unmodified SDK."""

from __future__ import annotations

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

pytestmark = pytest.mark.xdist_group("training")


def test_base_models_aliases_and_finished_models_are_listed(client: openai.OpenAI, finished: FineTuningJob) -> None:
    listed = {model.id: model.owned_by for model in client.models.list()}
    assert listed["tiny-text"] == listed["gpt-4o-mini"] == listed["smollm2-135m-vision"] == "system"
    assert listed[finished.fine_tuned_model or ""] == "local"


def test_a_checkpoint_is_found_by_name_but_not_listed(client: openai.OpenAI, finished: FineTuningJob) -> None:
    name = f"{finished.fine_tuned_model}:ckpt-step-36"
    assert client.models.retrieve(name).id == name
    assert name not in {model.id for model in client.models.list()}


@pytest.mark.parametrize("name", ["none", "org/name", "ft:gpt-4o-mini:local::none", "../../etc", "tiny-text/../x"])
def test_an_unknown_model_is_not_found(client: openai.OpenAI, name: str) -> None:
    for action in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            action(name)
        assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


def test_a_base_model_cannot_be_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="only fine-tuned models"):
        client.models.delete("tiny-text")


def test_a_deleted_checkpoint_cannot_be_asked_or_listed_any_more(
    client: openai.OpenAI, finished_again: FineTuningJob
) -> None:
    job = finished_again
    [checkpoint] = [found.fine_tuned_model_checkpoint for found in client.fine_tuning.jobs.checkpoints.list(job.id)]
    assert client.models.delete(checkpoint).deleted
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=checkpoint, messages=[{"role": "user", "content": "x"}])
    assert client.models.retrieve(job.fine_tuned_model or "").id == job.fine_tuned_model
