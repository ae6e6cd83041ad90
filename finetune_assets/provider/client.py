"""How a provider is reached, and what its errors mean.

A task names its provider: `local` (the server of this package), `openai`, `azure`, or the base URL of anything that
speaks the same protocol. Keys come from the environment or, for `local`, from the file that the server writes at its
first start; they are sent to the provider and go nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import httpx2
import openai

from finetune_assets.errors import ProviderError
from finetune_assets.provider import incoming, local_server
from finetune_assets.provider.local_server import is_loopback
from finetune_assets.running import server_at
from finetune_assets.task.provider import address_of

AZURE_ENDPOINT = "AZURE_OPENAI_ENDPOINT"
"""Environment variable with the address of an Azure resource, such as https://RESOURCE.openai.azure.com."""
RETRIES = 8
"""Of requests that may be repeated, by the SDK: over 40 seconds, or as long as the provider asks for."""
TIMEOUT = httpx2.Timeout(60, connect=10)
"""Seconds of silence after which a request is given up; the SDK's own 10 minutes are for answers that are written."""

Client = openai.OpenAI
"""What speaks to a provider, whoever that is."""


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
    key_header: Literal["Authorization", "api-key"] = "Authorization"
    suffix_length: int = 64
    """Most characters of a fine-tuned model's suffix."""
    concurrency: int = 64
    """Questions at once from which it gains; where it takes fewer, it says so, and is asked fewer."""

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
        ways = [f"set {' or '.join(self.key_variables)}"] if self.key_variables else []
        if self.key_file:
            ways.append(f"start the server with `finetune-assets serve`, which writes {self.key_file}")
        elif local_server.KEY_VARIABLE in self.key_variables:
            ways.append("as where the server was started")
        advice = ", or ".join(ways) if self.key_file else " ".join(ways)
        if self.base_url and "OPENAI_API_KEY" not in self.key_variables and "OPENAI_API_KEY" in os.environ:
            advice += "; OPENAI_API_KEY is sent to OpenAI, to the host of OPENAI_BASE_URL and to this machine alone"
        raise ProviderError(f"no API key for the provider {self.name!r}: {advice}")


def find_provider(name: str) -> Provider:
    """Return the provider that a task's `provider` names.

    Raises:
        ProviderError: the name is none of `local`, `openai`, `azure`, those of the environment and an http(s) URL, or
            Azure has no endpoint.
    """
    if name == "local":
        return Provider(name, local_server.local_url(), *local_server.local_keys(), concurrency=16)
    if name == "openai":
        return Provider(name, None, ("OPENAI_API_KEY",))
    if name == "azure":
        return Provider(name, _azure_url(), ("AZURE_OPENAI_API_KEY",), key_header="api-key", suffix_length=18)
    name = address_of(name) or name
    url = urlsplit(name)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ProviderError(
            "provider must be local, openai, azure, a base URL such as https://host/v1, or a name whose base URL is in "
            f"the environment (TOGETHER_BASE_URL for together), got {name!r}"
        )
    if (keys := local_server.keys_at(name)) is not None:
        return Provider(name, name, *keys)
    here = (local_server.KEY_VARIABLE,) if is_loopback(url.hostname) else ()
    return Provider(name, name, (*_named_at(url), *here, *_variables_of(url.hostname)))


def _variables_of(host: str) -> tuple[str, ...]:
    """Name the variables whose key may be sent to a host: a task's YAML may name any, and gets no other's key."""
    theirs = urlsplit(os.environ.get("OPENAI_BASE_URL", "")).hostname
    if is_loopback(host) or host == theirs or host == "openai.com" or host.endswith(".openai.com"):
        return ("OPENAI_API_KEY",)
    return (f"{re.sub(r'[^A-Z0-9]', '_', host.upper())}_API_KEY",)


def _named_at(url: SplitResult) -> Iterator[str]:
    """Name the variables of keys whose owner's base URL is, by the environment itself, at the same host and port."""
    for variable, address in sorted(os.environ.items()):
        name = variable.removesuffix("_BASE_URL").lower().replace("_", "-")
        if variable.endswith("_BASE_URL") and address_of(name) == address:
            there = urlsplit(address)
            if (there.hostname, there.port) == (url.hostname, url.port):
                yield f"{variable.removesuffix('_BASE_URL')}_API_KEY"


def connect(provider: str) -> Client:
    """Open a client for the provider that a task names. Nothing is sent yet.

    Raises:
        ProviderError: the name is unknown, or there is no key for it.
    """
    found = find_provider(provider)
    azure = found.key_header == "api-key"
    hooks = HOOKS | ({"request": [*HOOKS["request"], _azure_header]} if azure else {})
    # A redirect to another host loses the header `Authorization`, but would take Azure's along.
    http = openai.DefaultHttpxClient(event_hooks=hooks, follow_redirects=not azure)
    return Client(api_key=found.key, base_url=found.base_url, timeout=TIMEOUT, max_retries=RETRIES, http_client=http)


def asynchronous(client: Client) -> openai.AsyncOpenAI:
    """Open a client for the same provider, with the same key and hooks, for one event loop; it repeats nothing.

    It sends through aiohttp, with which a request takes a third less of a core than with the SDK's usual library.
    """
    line = client._client
    hooks = {moment: [_awaited(hook) for hook in found] for moment, found in line.event_hooks.items()}
    http = openai.DefaultAioHttpClient(event_hooks=hooks, follow_redirects=line.follow_redirects)
    return openai.AsyncOpenAI(
        api_key=client.api_key, base_url=client.base_url, timeout=client.timeout, max_retries=0, http_client=http
    )


def asked_as(client: Client) -> str:
    """Return who is asked: the local server is the same one whatever port it has today."""
    url = str(client.base_url)
    return "local" if url.rstrip("/") == str(httpx2.URL(local_server.local_url())).rstrip("/") else url


@contextmanager
def explained(client: Client) -> Iterator[None]:
    """Turn the SDK's errors into a `ProviderError` that says who refused what, and what to do about it."""
    try:
        yield
    except openai.AuthenticationError:
        # The answer may repeat the key, and the chained error would print it.
        raise ProviderError(
            f"{client.base_url} does not accept the API key that was sent (401){_about_the_key(client)}"
        ) from None
    except openai.APIConnectionError as error:
        raise ProviderError(
            f"{client.base_url} does not answer ({error.__cause__ or error}); {_about_silence(client)}"
        ) from error
    except openai.APIStatusError as error:
        raise ProviderError(
            f"{client.base_url} answered {error.status_code}: {message(error)}{_advice(error)}"
        ) from error


def message(error: openai.APIStatusError) -> str:
    """Return the provider's own words for an error, without the SDK's wrapping."""
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else error.message


def _azure_url() -> str:
    endpoint = os.environ.get(AZURE_ENDPOINT, "").rstrip("/")
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        example = "https://RESOURCE.openai.azure.com"
        raise ProviderError(f"provider azure: set {AZURE_ENDPOINT} to your resource's address, such as {example}")
    return f"{endpoint.removesuffix('/openai/v1')}/openai/v1/"


def is_lacking(error: openai.APIStatusError) -> bool:
    """Say whether the provider has no such endpoint or thing, or keeps it to administrators."""
    return error.status_code in (403, 404, 405, 501)


def is_gone(error: ProviderError) -> bool:
    """Say whether the provider answered, and does not know what it was asked for."""
    return isinstance(error.__cause__, openai.NotFoundError)


def _about_the_key(client: Client) -> str:
    """Say where the key came from, or whose server that is, where this can be known."""
    host, port = client.base_url.host, client.base_url.port
    if not is_loopback(host):
        return ""
    if (home := server_at(port) if port else None) is None:
        return ""
    return f"; it is the server of {home}, whose key is in {local_server.key_place(home)}"


def _about_silence(client: Client) -> str:
    if is_loopback(client.base_url.host):
        return "is it running? `finetune-assets serve` starts the local server"
    if client.base_url.host == "api.openai.com":
        return "can this machine reach it, by a proxy if it needs one (HTTPS_PROXY)? See also https://status.openai.com"
    return "is the address right, and can this machine reach it, by a proxy if it needs one (HTTPS_PROXY)?"


def _azure_header(request: httpx2.Request) -> None:
    request.headers["api-key"] = request.headers.pop("authorization").removeprefix("Bearer ")


def _awaited(hook: Callable[[Any], None]) -> Callable[[Any], Awaitable[None]]:
    """Make a hook of a client one of an asynchronous client."""

    async def run(message: httpx2.Request | httpx2.Response) -> None:
        hook(message)

    return incoming.check_later if hook is incoming.check else run


def _advice(error: openai.APIStatusError) -> str:
    if elsewhere := error.response.headers.get(incoming.REDIRECTED_TO):
        return f". It sends us to {elsewhere[:200]}, where nothing was sent; if that is right, name it as the provider"
    if error.code == "training_not_available":
        return ". Fine-tuning is closed for this organisation; `provider: local` trains with this package's own server"
    return ""


HOOKS: dict[str, list[Any]] = {"request": [incoming.ask_plainly], "response": [incoming.check]}
"""What a client does with each request before it is sent, and with each response before the SDK reads it."""
