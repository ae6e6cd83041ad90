"""Deploying a fine-tuned model on Azure: once, with every refusal explained."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import ProviderError
from finetune_assets.provider import azure_deployment
from finetune_assets.provider.azure_deployment import Served, deployment_name, serve_model
from finetune_assets.task import Task
from finetune_assets_tests.azure_control_plane import ACCOUNT, TOKEN, ControlPlane, control_plane
from finetune_assets_tests.pipeline.tasks import make_task

MODEL = "gpt-4.1-mini-2025-04-14.ft-0e208cf33a6a466994aff31a08aba678"
LONG = f"{MODEL}-cells-mono"


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    monkeypatch.setattr(azure_deployment, "POLL_SECONDS", 0.01)
    with control_plane() as plane:
        monkeypatch.setenv("AZURE_MANAGEMENT_ENDPOINT", plane.endpoint)
        monkeypatch.setenv("AZURE_MANAGEMENT_TOKEN", TOKEN)
        yield plane


def azure_task(sku: str = "developerTier", **changes: object) -> Task:
    return make_task(provider="azure", deployment={"account": ACCOUNT, "sku": sku}, **changes)


def serve(task: Task | None = None, model: str = MODEL) -> tuple[Served, list[str]]:
    """What is served, and what was said on the way."""
    said: list[str] = []
    return serve_model(task or azure_task(), model, said.append), said


def test_a_model_is_deployed_under_its_own_name_and_waited_for(plane: ControlPlane) -> None:
    served, said = serve()
    assert served.model == MODEL
    assert plane.deployments[MODEL]["sku"] == {"name": "developerTier", "capacity": 50}
    assert plane.deployments[MODEL]["properties"]["model"] == {"format": "OpenAI", "name": MODEL, "version": "1"}
    assert said == [f"Azure's deployment {MODEL}: Accepted", f"Azure's deployment {MODEL}: Creating"]


def test_what_is_deployed_is_found_again(plane: ControlPlane) -> None:
    assert serve()[0] == serve()[0]
    assert plane.asked["PUT"] == 1


def test_what_was_begun_by_a_run_that_was_killed_is_waited_for(plane: ControlPlane) -> None:
    model = {"format": "OpenAI", "name": MODEL, "version": "1"}
    plane.put(MODEL, {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": model}})
    served, _ = serve()
    assert plane.asked == {"GET": 2} and "1.70 USD" in served.note


def test_an_answer_that_was_lost_makes_no_second_deployment(plane: ControlPlane) -> None:
    plane.lost_answers = 1
    _, said = serve()
    assert plane.asked["PUT"] == 1 and "does not answer" in said[0]


def test_a_failed_deployment_is_tried_once_more_by_the_next_run(plane: ControlPlane) -> None:
    plane.states = ["Creating", "Failed"]
    with pytest.raises(ProviderError, match="ended as Failed; the activity log"):
        serve()
    plane.states = ["Creating", "Succeeded"]
    assert serve()[0].model == MODEL
    assert plane.asked["PUT"] == 2


@pytest.mark.parametrize(
    "refusal",
    [
        (409, "RequestConflict", "Another operation is being performed on the parent resource"),
        (429, "TooManyRequests", "Slow down"),
        (503, "ServiceUnavailable", "Later"),
    ],
)
def test_a_control_plane_that_is_busy_is_asked_again(plane: ControlPlane, refusal: tuple[int, str, str]) -> None:
    plane.refusals = [refusal, refusal]
    _, said = serve()
    assert said[0] == f"Azure's deployment {MODEL}: {refusal[2]} ({refusal[1]})"
    assert plane.asked["PUT"] == 3


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        ((403, "AuthorizationFailed", "no authorization"), "accounts/deployments/write"),
        ((404, "ResourceGroupNotFound", "no group"), "is deployment.account"),
        ((400, "InsufficientQuota", "50 are more than 0"), "50 are more than 0; lower deployment.capacity"),
        ((429, "InsufficientQuota", "50 are more than 0"), "lower deployment.capacity"),
        ((400, "DeploymentModelNotSupported", "no such sku"), "not every model is offered"),
    ],
)
def test_a_refusal_says_what_to_do(plane: ControlPlane, refusal: tuple[int, str, str], advice: str) -> None:
    plane.refusals = [refusal]
    with pytest.raises(ProviderError, match=rf"{refusal[0]} {refusal[1]}.*{advice}"):
        serve()
    assert plane.asked["PUT"] == 1


def test_a_token_that_has_expired_is_never_repeated(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_MANAGEMENT_TOKEN", "expired-token")
    with pytest.raises(ProviderError, match=f"az account get-access-token --resource {plane.endpoint}") as caught:
        serve()
    assert "expired-token" not in "".join(traceback.format_exception(caught.value))


def test_without_a_token_it_is_said_how_to_get_one(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_MANAGEMENT_TOKEN")
    with pytest.raises(ProviderError, match="set AZURE_MANAGEMENT_TOKEN; `az account get-access-token"):
        serve()
    assert not plane.asked


def test_the_token_does_not_go_over_an_open_line(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_MANAGEMENT_ENDPOINT", plane.endpoint.replace("127.0.0.1", "0.0.0.0"))  # noqa: S104
    with pytest.raises(ProviderError, match="must be an https address"):
        serve()
    assert not plane.asked


def test_what_takes_too_long_can_be_waited_for_again(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_deployment, "MAX_SECONDS", 0.05)
    plane.states = ["Creating"]
    with pytest.raises(ProviderError, match=r"not ready after 0 minutes \(Creating\); materialise again"):
        serve()


def test_another_model_s_deployment_is_left_alone(plane: ControlPlane) -> None:
    model = {"format": "OpenAI", "name": "other", "version": "1"}
    plane.put(MODEL, {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": model}})
    with pytest.raises(ProviderError, match="is one of other, not of"):
        serve()
    assert plane.asked["PUT"] == 0


@pytest.mark.usefixtures("plane")
def test_the_note_says_what_it_costs_and_how_to_remove_it() -> None:
    priced = azure_task("GlobalStandard", prices={"hosting_usd_per_hour": 2.5})
    notes = {sku: serve(task, f"m-{sku}")[0].note for sku, task in (("dev", azure_task()), ("global", priced))}
    assert "nothing by the hour" in notes["dev"] and "24 hours" in notes["dev"]
    assert "costs 2.5 USD an hour" in notes["global"]
    assert "deployment delete --resource-group g-1 --name a-1 --deployment-name m-global" in notes["global"]
    assert "asks gpt-4o-2024-08-06 too" in notes["global"]


def test_without_the_section_the_model_keeps_its_name_and_the_way_is_said(plane: ControlPlane) -> None:
    task = make_task(provider="azure")
    served, _ = serve(task)
    assert served.model == MODEL and f"--deployment-name {MODEL} --model-name {MODEL}" in served.note
    assert serve(task, LONG)[0].model == LONG and "is no name for a deployment" in serve(task, LONG)[0].note
    assert not plane.asked


def test_elsewhere_nothing_is_to_be_done(plane: ControlPlane) -> None:
    assert serve(make_task(), "ft:a:b::c")[0] == Served("ft:a:b::c")
    assert not plane.asked


@given(st.text(min_size=1, max_size=120))
def test_every_model_has_a_name_that_azure_takes(model: str) -> None:
    name = deployment_name(model)
    assert 2 <= len(name) <= 64 and name[0].isalnum() and name[-1].isalnum()
    assert name.isascii() and not set(name) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert name == model or deployment_name(f"{model}'") != name


def test_the_jobs_of_long_names_are_told_apart() -> None:
    assert len({deployment_name(f"{MODEL}-cells-{region}") for region in ("mono", "poly")}) == 2
