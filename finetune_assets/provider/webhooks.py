"""What a provider says of its own accord: webhooks, signed as the specification Standard Webhooks has it.

OpenAI and Azure post one when a job has ended. Who knows the secret that the provider gave can tell that a webhook is
the provider's, and that it is new; nothing else in it is to be believed.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass

from finetune_assets.errors import ProviderError, WebhookError
from finetune_assets.provider.client import Client

SECRET = "OPENAI_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
"""Environment variable with the secret by which webhooks are signed."""
JOB_EVENTS = ("fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled")
MAX_AGE_S = 300
"""A webhook that is older, or as much ahead of our clock, is refused: it may be a repetition of an old one."""
_MIN_SECRET_BYTES = 16
_WHERE = (
    "it is shown once, when a webhook is created: by OpenAI at https://platform.openai.com/settings/project/webhooks, "
    "by Azure in the answer of POST /openai/v1/dashboard/webhook_endpoints. "
    f"Create one for the events {', '.join(JOB_EVENTS)}"
)


@dataclass(frozen=True)
class JobEnded:
    """A provider's word that a job has ended."""

    delivery: str
    """The same whenever this word is sent again."""
    job_id: str
    event: str
    """One of `JOB_EVENTS`."""


class Verifier:
    """Reads webhooks that are signed with the secret in `OPENAI_WEBHOOK_SECRET`."""

    def __init__(self) -> None:
        """Take the secret.

        Raises:
            ProviderError: there is none, or what there is cannot be one; the message says where to find it.
        """
        # The client asks nobody: verifying needs no key.
        self._client = Client(api_key="none", webhook_secret=_secret())

    def read(self, body: bytes, headers: Mapping[str, str]) -> JobEnded | None:
        """Return what a webhook says of a job; None where it is about something else.

        Raises:
            WebhookError: it is not signed with the secret, or is too old.
        """
        try:
            said = self._client.webhooks.unwrap(body, headers)
        except (ValueError, TypeError) as error:  # a TypeError for letters in a signature that no signature has
            raise WebhookError(f"not a webhook signed with {SECRET}: {error}") from error
        job_id = getattr(getattr(said, "data", None), "id", None)
        event = getattr(said, "type", None)
        if event not in JOB_EVENTS or not isinstance(job_id, str):
            return None
        return JobEnded(headers["webhook-id"], job_id, event)


def _secret() -> str:
    secret = os.environ.get(SECRET, "").strip()
    if not secret:
        raise ProviderError(f"set {SECRET} to the signing secret of your webhook: {_WHERE}")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    except binascii.Error as error:
        raise ProviderError(f"{SECRET} was not copied whole ({error}): {_WHERE}") from None
    if len(key) < _MIN_SECRET_BYTES:
        raise ProviderError(f"{SECRET} holds {len(key)} bytes, too few to be a secret: {_WHERE}")
    return secret
