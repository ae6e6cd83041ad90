"""The servers of this package: where each is, and which key opens it.

`local` is the server that `FINETUNE_ASSETS_BASE_URL` names, which may be on any machine; without it that of the working
directory, wherever its record says that it listens. A server's own key is found by its folder, so that two servers on
one machine may be asked side by side: `FINETUNE_ASSETS_API_KEY` opens one that was started with it, and no other.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from finetune_assets.errors import ProviderError
from finetune_assets.running import Running, running, server_at

HOME = Path("var/server")
"""Of the working directory's server."""
PORT = 8321
KEY_VARIABLE = "FINETUNE_ASSETS_API_KEY"
URL_VARIABLE = "FINETUNE_ASSETS_BASE_URL"
"""Environment variable with the base URL of a server that `local` is, instead of the working directory's."""
_KEY_FILE = "api_key"


def named_url() -> str | None:
    """Return the base URL of the server that the environment names; None where it is the working directory's own.

    Raises:
        ProviderError: the environment names none.
    """
    named = os.environ.get(URL_VARIABLE, "").strip().rstrip("/")
    place = urlsplit(named)
    if named and (place.scheme not in {"http", "https"} or not place.hostname or place.query or place.fragment):
        raise ProviderError(f"{URL_VARIABLE} must be a base URL such as http://server:8321/v1, got {named[:200]!r}")
    return named or None


def local_url() -> str:
    """Return the base URL of `local`: as named, else where it runs here, else where it would by default.

    Raises:
        ProviderError: the environment names none.
    """
    if (named := named_url()) is not None:
        return named
    found = running(HOME)
    return f"{found.url if found else f'http://127.0.0.1:{PORT}'}/v1"


def local_keys() -> tuple[tuple[str, ...], Path | None]:
    """Return where the key of `local` is: variables, and a file where none of them is set."""
    if (named := named_url()) is not None:
        return keys_at(named) or ((KEY_VARIABLE,), None)
    if (found := running(HOME)) is None:
        return (KEY_VARIABLE,), HOME / _KEY_FILE
    return _keys(HOME, found)


def keys_at(url: str) -> tuple[tuple[str, ...], Path | None] | None:
    """Return where the key of the server at a URL is; None where no server of ours and of this user's listens there."""
    place = urlsplit(url)
    if not is_loopback(place.hostname or "") or place.port is None or (home := server_at(place.port)) is None:
        return None
    found = running(home)
    return _keys(home, found) if found and found.port == place.port else None


def key_place(home: Path) -> str:
    """Say where the key of the server of a folder is."""
    found = running(home)
    file = _keys(home, found)[1] if found else None
    return str(file) if file else f"the {KEY_VARIABLE} with which it was started"


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keys(home: Path, found: Running) -> tuple[tuple[str, ...], Path | None]:
    if found.settings.get("key") == "environment":
        return (KEY_VARIABLE,), None
    return (), home / _KEY_FILE
