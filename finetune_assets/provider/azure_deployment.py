"""Azure's step between training and asking: a fine-tuned model answers once it is deployed.

Deployments belong to Azure's control plane (Azure Resource Manager), which takes a token of its own. A model has one
deployment, named after it. It is looked up before it is made, so that whoever asks again, also after a crash, goes on
with what is there. Sources: "Deploy a fine-tuned model" and "Cost management for fine-tuning" in Microsoft's
documentation of Foundry, and the specification of Microsoft.CognitiveServices, 2025-06-01.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from finetune_assets.errors import ProviderError
from finetune_assets.provider.local_server import is_loopback
from finetune_assets.provider.pricing import prices_of
from finetune_assets.task import Task
from finetune_assets.task.provider import Deployment

TOKEN = "AZURE_MANAGEMENT_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with an access token for the control plane."""
ENDPOINT = "AZURE_MANAGEMENT_ENDPOINT"
"""Environment variable with the control plane's address, for Azure's clouds of other states."""
PUBLIC_CLOUD = "https://management.azure.com"
API_VERSION = "2025-06-01"
POLL_SECONDS = 10.0
MAX_SECONDS = 3600.0
"""How long a deployment may take; a few minutes are usual."""
_TIMEOUT_S = 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}[A-Za-z0-9]")
_ENDED_BADLY = ("Failed", "Canceled", "Disabled")
_DAYS_IDLE = 15

Say = Callable[[str], object]
"""Told where a deployment stands, whenever that has changed."""


@dataclass(frozen=True)
class Served:
    """A model that can be asked."""

    model: str
    """The name to ask for it by."""
    note: str = ""
    """What it costs, and how to remove it, in Markdown. Empty where the provider serves what it trains."""


class _BusyError(Exception):
    """What was asked cannot be done now, but perhaps in a moment."""


def serve_model(task: Task, model: str, say: Say) -> Served:
    """Have a fine-tuned model ready to be asked: on Azure deployed, elsewhere as it is.

    Raises:
        ProviderError: Azure does not deploy it; the message says why, and what to do.
    """
    if task.provider != "azure":
        return Served(model)
    if task.deployment is None:
        return Served(model, f"{_by_hand(model)}\n\n{_base_model(task)}")
    name = deployment_name(model)
    sku = deploy(task.deployment, name, model, say)
    return Served(name, "\n\n".join((_costs(task, sku), _removal(task.deployment, name), _base_model(task))))


def deployment_name(model: str) -> str:
    """Return the name of a model's deployment: its own, or a short one where Azure does not take that.

    Azure takes 2 to 64 letters, digits, dots, hyphens and underscores.
    """
    if _NAME.fullmatch(model):
        return model
    digest = hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', model)[:55].lstrip('._-') or 'model'}-{digest}"


def deploy(where: Deployment, name: str, model: str, say: Say) -> str:
    """Wait until the deployment `name` of the model is ready; make it unless it is there. Return its sku.

    Raises:
        ProviderError: there is no token, or Azure refuses, fails, or does not come to an end in time.
    """
    deadline = time.monotonic() + MAX_SECONDS
    asked, said = False, ""
    with _control_plane(where) as client:
        while True:
            try:
                state, sku = _look(client, name, model)
                if state == "Succeeded":
                    return sku
                if not asked and state in ("absent", *_ENDED_BADLY):
                    state, asked = _create(client, name, model, where), True
                elif state in _ENDED_BADLY:
                    why = "the activity log of the account in Azure's portal says why"
                    raise ProviderError(f"Azure's deployment {name} of {model} ended as {state}; {why}")
            except _BusyError as busy:
                state = str(busy)
            if state != said:
                say(f"Azure's deployment {name}: {state}")
                said = state
            if time.monotonic() > deadline:
                waited = f"is not ready after {MAX_SECONDS / 60:.0f} minutes ({state})"
                raise ProviderError(f"Azure's deployment {name} {waited}; materialise again to go on waiting")
            time.sleep(POLL_SECONDS)


def _control_plane(where: Deployment) -> httpx2.Client:
    """Return a client whose address is the account's."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ProviderError(f"to deploy on Azure, set {TOKEN}; {_advice(401)}")
    return httpx2.Client(
        base_url=f"{_endpoint()}{where.account}",
        params={"api-version": API_VERSION},
        headers={"Authorization": f"Bearer {token}"},
        timeout=_TIMEOUT_S,
    )


def _endpoint() -> str:
    endpoint = os.environ.get(ENDPOINT, PUBLIC_CLOUD).rstrip("/")
    url = urlsplit(endpoint)
    # The token must not go over an open line.
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise ProviderError(f"{ENDPOINT} must be an https address, such as {PUBLIC_CLOUD}, got {endpoint!r}")
    return endpoint


def _look(client: httpx2.Client, name: str, model: str) -> tuple[str, str]:
    """Return the state of the deployment, "absent" if there is none, and its sku."""
    response = _request(client, "GET", name)
    if response.status_code == 404:
        return "absent", ""
    found = _whole(response)
    deployed = found["properties"]["model"]["name"]
    if deployed != model:
        raise ProviderError(f"Azure's deployment {name} is one of {deployed}, not of {model}: remove it")
    return found["properties"]["provisioningState"], found["sku"]["name"]


def _create(client: httpx2.Client, name: str, model: str, where: Deployment) -> str:
    """Ask for the deployment; return its state."""
    body = {
        "sku": {"name": where.sku, "capacity": where.capacity},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    return _whole(_request(client, "PUT", name, body))["properties"]["provisioningState"]


def _request(client: httpx2.Client, method: str, name: str, body: Any = None) -> httpx2.Response:
    try:
        response = client.request(method, f"deployments/{name}", json=body)
    except httpx2.TransportError as error:
        raise _BusyError(f"{client.base_url.host} does not answer ({error})") from error
    if response.is_success or (response.status_code == 404 and method == "GET"):
        return response
    code, words = _refusal(response)
    status = response.status_code
    if code != "InsufficientQuota" and (status in (408, 409, 429) or status >= 500):
        raise _BusyError(f"{words} ({code or status})")
    raise ProviderError(f"Azure refused to deploy ({status} {code}): {words}; {_advice(status, code)}")


def _whole(response: httpx2.Response) -> dict[str, Any]:
    try:
        return response.json()
    except ValueError as error:
        raise _BusyError("the answer is not whole") from error


def _refusal(response: httpx2.Response) -> tuple[str, str]:
    """Return the code and words of an error, as far as the answer has them."""
    try:
        error = response.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", response.text[:200] or response.reason_phrase


def _advice(status: int, code: str = "") -> str:
    if code == "InsufficientQuota":
        return "lower deployment.capacity, remove deployments that nobody asks, or have Azure raise the quota"
    if status == 401:
        command = f"az account get-access-token --resource {_endpoint()} --query accessToken -o tsv"
        return f"`{command}` prints a token for {TOKEN}, good for about an hour"
    if status == 403:
        action = "Microsoft.CognitiveServices/accounts/deployments/write"
        return f"the token's owner needs a role with the action {action} on the account, such as Foundry Owner"
    if status == 404:
        return "is deployment.account in the task's YAML right, and the token one for its subscription?"
    return "not every model is offered with every deployment.sku in every region: try another one"


def _by_hand(model: str) -> str:
    only = "Azure answers for deployed models only, and a deployment costs by the hour until it is removed."
    if not _NAME.fullmatch(model):
        return f"{only} State `deployment` in the task's YAML to have it deployed: {model} is no name for a deployment."
    create = (
        "az cognitiveservices account deployment create --resource-group GROUP --name ACCOUNT "
        f"--deployment-name {model} --model-name {model} --model-version 1 --model-format OpenAI "
        "--sku-name Standard --sku-capacity 50"
    )
    way = "Before you materialise benchmark, deploy the model under its own name, or state `deployment`"
    return f"{only} {way} in the task's YAML:\n\n`{create}`"


def _costs(task: Task, sku: str) -> str:
    if sku.lower() == "developertier":
        return "It costs nothing by the hour, and Azure removes it after 24 hours; materialise again to have it back."
    usd = prices_of(task).hosting_usd_per_hour
    price = f"{usd:g} USD" if usd else "about 1.70 USD (an example in Azure's documentation of March 2026)"
    return f"It costs {price} an hour, asked or not, until it is removed or was idle for {_DAYS_IDLE} days."


def _removal(where: Deployment, name: str) -> str:
    group, account = where.group_and_name
    delete = f"--resource-group {group} --name {account} --deployment-name {name}"
    return f"To remove it, and keep the model:\n\n`az cognitiveservices account deployment delete {delete}`"


def _base_model(task: Task) -> str:
    return f"The benchmark asks {task.base_model} too, which needs a deployment of that name."
