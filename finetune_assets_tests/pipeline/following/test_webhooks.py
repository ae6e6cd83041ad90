"""The receiver of webhooks as a process, and what the job sensor makes of what it stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import httpx2
import pytest

from finetune_assets.errors import AddressInUseError, ProviderError
from finetune_assets.pipeline.following import memory
from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.following.webhooks import MAX_BODY_BYTES, serve
from finetune_assets.pipeline.shown.jobs_overview import KEY
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.processes import dagster_home
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server.conftest import training_lines, upload, wait
from finetune_assets_tests.server_process import ServerProcess
from finetune_assets_tests.webhook_sender import SECRET, ReceiverProcess, job_event, signed


@dataclass(frozen=True)
class Listening:
    """The receiver, and the instance that it writes to."""

    receiver: ReceiverProcess
    instance: dg.DagsterInstance

    def stored(self, job_id: str) -> list[str]:
        """The events that were stored of a job."""
        records = self.instance.fetch_observations(KEY, limit=1000).records
        seen = [record.asset_observation.metadata for record in records if record.asset_observation]
        return [str(of["event"].value) for of in seen if of["job_id"].value == job_id]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DAGSTER_HOME", str(tmp_path_factory.mktemp("dagster")))
        home = dagster_home()
    with dg.DagsterInstance.from_config(str(home)) as instance, ReceiverProcess(home) as receiver:
        yield Listening(receiver, instance)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_the_end_of_a_job_is_observed(listening: Listening, outcome: str) -> None:
    body = job_event(f"ftjob-{outcome}", outcome)
    assert listening.receiver.post(body, signed(body, f"wh_{outcome}")).status_code == 204
    assert listening.stored(f"ftjob-{outcome}") == [f"fine_tuning.job.{outcome}"]


def test_what_comes_again_is_stored_once(listening: Listening) -> None:
    body = job_event("ftjob-twice")
    first, later = signed(body, "wh_twice"), signed(body, "wh_twice", age=5)
    assert [listening.receiver.post(body, headers).status_code for headers in (first, first, later)] == [204] * 3
    assert len(listening.stored("ftjob-twice")) == 1


def test_a_wrong_signature_and_an_old_one_are_refused(listening: Listening) -> None:
    body = job_event("ftjob-forged")
    forged = signed(body) | {"webhook-signature": signed(b"other")["webhook-signature"]}
    old = signed(body, age=600)
    answers = [listening.receiver.post(body, headers) for headers in (forged, old, {})]
    assert [answer.status_code for answer in answers] == [400] * 3
    assert "too old" in answers[1].text and SECRET not in "".join(answer.text for answer in answers)
    assert listening.stored("ftjob-forged") == []


def test_an_event_of_another_type_is_taken_and_forgotten(listening: Listening) -> None:
    body = b'{"id": "evt_2", "type": "batch.completed", "created_at": 1, "data": {"id": "batch-1"}}'
    assert listening.receiver.post(body).status_code == 204
    assert listening.stored("batch-1") == []


def test_a_large_body_is_not_read_and_other_requests_have_no_answer(listening: Listening) -> None:
    assert listening.receiver.post(b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
    assert httpx2.get(listening.receiver.url).status_code == 405
    assert httpx2.post(listening.receiver.url.removesuffix("/webhooks")).status_code == 404


def test_it_does_not_start_without_a_secret_or_on_a_port_that_is_taken(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(listening.receiver.url.removesuffix("/webhooks").rpartition(":")[2])
    monkeypatch.delenv("OPENAI_WEBHOOK_SECRET", raising=False)
    with pytest.raises(ProviderError, match="set OPENAI_WEBHOOK_SECRET to the signing secret"):
        serve(tmp_path, port)
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", SECRET)
    with pytest.raises(AddressInUseError, match=f"cannot listen on 127.0.0.1:{port} .*--port"):
        serve(tmp_path, port)


def test_a_job_is_evaluated_at_once_when_its_end_is_said(
    listening: Listening, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An address that is not this machine's by name, so that the provider is asked as seldom as a remote one.
    elsewhere = server.base_url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104
    monkeypatch.setenv("0_0_0_0_API_KEY", server.key)
    monkeypatch.setattr(memory, "REMOTE_PACE_S", 3600)
    task = make_task(provider=elsewhere, base_model="tiny-text")
    client = server.client()
    file = upload(client, training_lines(10))
    job = client.fine_tuning.jobs.create(model="tiny-text", training_file=file, hyperparameters={"n_epochs": 1})
    made = dg.AssetMaterialization(asset_key(task, "finetune_job"), partition="mono", metadata={"job_id": job.id})
    listening.instance.report_runless_asset_event(made)

    def tick(cursor: str | None) -> dg.SensorResult:
        result = job_sensor(task)(dg.build_sensor_context(listening.instance, cursor=cursor))
        assert isinstance(result, dg.SensorResult)
        return result

    first = tick(None)
    wait(client, job.id, "succeeded")
    quiet = tick(first.cursor)
    body = job_event(job.id)
    assert listening.receiver.post(body, signed(body, "wh_end")).status_code == 204
    woken = tick(quiet.cursor)

    assert not first.run_requests and not quiet.run_requests
    assert [(request.partition_key, request.job_name) for request in woken.run_requests or []] == [
        ("mono", "cells_evaluate")
    ]
