"""How a provider is reached, and what its errors mean.

A task names its provider: `local` (the server of this package), `openai`, or the base URL of anything that speaks
the same protocol. Keys come from the environment or, for `local`, from the file that the server writes at its
first start; they are sent to the provider and go nowhere else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import openai

from finetune_assets.errors import ProviderError

LOCAL_URL = "http://127.0.0.1:8321/v1"
LOCAL_KEY_FILE = Path("var/server/api_key")
ATTEMPTS = 3

Client = openai.OpenAI
"""What speaks to a provider, whoever that is."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Provider:
    """Who answers, and where its key is looked for."""

    name: str
    """As the task says it."""
    base_url: str | None
    """None leaves it to the SDK: `OPENAI_BASE_URL`, else OpenAI itself."""
    key_variables: tuple[str, ...]
    """Environment variables that may hold the key; the first one set is taken."""
    key_file: Path | None = None
    """Where the key is when no variable is set."""

    @property
    def key(self) -> str:
        """The key to send.

        Raises:
            ProviderError: there is none; the message says where to put it.
        """
        for variable in self.key_variables:
            if key := os.environ.get(variable):
                return key
        if self.key_file and self.key_file.is_file():
            return self.key_file.read_text().strip()
        advice = f"set {' or '.join(self.key_variables)}"
        if self.key_file:
            advice += f", or start the server with `finetune-assets serve`, which writes {self.key_file}"
        raise ProviderError(f"no API key for the provider {self.name!r}: {advice}")


def find_provider(name: str) -> Provider:
    """Return the provider that a task's `provider` names.

    Raises:
        ProviderError: the name is neither `local` nor `openai` nor an http(s) URL.
    """
    if name == "local":
        return Provider(name, LOCAL_URL, ("FINETUNE_ASSETS_API_KEY",), LOCAL_KEY_FILE)
    if name == "openai":
        return Provider(name, None, ("OPENAI_API_KEY",))
    url = urlsplit(name)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ProviderError(f"provider must be local, openai or a base URL such as https://host/v1, got {name!r}")
    variables = ("FINETUNE_ASSETS_API_KEY", "OPENAI_API_KEY") if _is_loopback(url.hostname) else ("OPENAI_API_KEY",)
    return Provider(name, name, variables)


def connect(provider: str) -> Client:
    """Open a client for the provider that a task names. Nothing is sent yet.

    Raises:
        ProviderError: the name is unknown, or there is no key for it.
    """
    found = find_provider(provider)
    return Client(api_key=found.key, base_url=found.base_url)


@contextmanager
def explained(client: Client) -> Iterator[None]:
    """Turn the SDK's errors into a `ProviderError` that says who refused what, and what to do about it."""
    try:
        yield
    except openai.AuthenticationError:
        # The answer may repeat the key, and the chained error would print it.
        raise ProviderError(f"{client.base_url} does not accept the API key that was sent (401)") from None
    except openai.APIConnectionError as error:
        raise ProviderError(
            f"{client.base_url} does not answer ({error.__cause__ or error}); is it running? "
            "`finetune-assets serve` starts the local server"
        ) from error
    except openai.APIStatusError as error:
        raise ProviderError(
            f"{client.base_url} answered {error.status_code}: {message(error)}{_advice(error)}"
        ) from error


def once(find: Callable[[], Found | None], create: Callable[[], Found]) -> tuple[Found, bool]:
    """Return what `find` finds, else what `create` makes; and whether it was there before.

    A request whose answer was lost may have succeeded, so it is never simply repeated: after every error of the
    line or the server we look first. `create` must therefore not repeat itself (`max_retries=0`).

    Raises:
        openai.APIError: the provider refused, or `ATTEMPTS` attempts failed.
    """
    if (found := find()) is not None:
        return found, True
    attempt = 1
    while True:
        try:
            return create(), False
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError):
            time.sleep(attempt)
            if (found := find()) is not None:
                return found, False
            if attempt == ATTEMPTS:
                raise
            attempt += 1


def message(error: openai.APIStatusError) -> str:
    """Return the provider's own words for an error, without the SDK's wrapping."""
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else error.message


def is_lacking(error: openai.APIStatusError) -> bool:
    """Say whether the provider has no such endpoint or thing, or keeps it to administrators."""
    return error.status_code in (403, 404, 405, 501)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _advice(error: openai.APIStatusError) -> str:
    if error.code == "training_not_available":
        return ". Fine-tuning is closed for this organisation; `provider: local` trains with this package's own server"
    return ""
