"""Images behind https URLs: fetched from public addresses only, and within limits.

Whoever wrote a table or a request chose the URL, so it must not make this machine speak to the network behind it. The
host's addresses are looked up once, all of them must be public, and the connection goes to the very address that was
checked, with the certificate still checked against the host's name: a name that changes its address in between gains
nothing. Every redirect is a new URL that is checked in the same way. All that can fail before a public server has
answered is told in the same words, so that nobody can find out by errors which names and addresses exist inside.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from finetune_assets.errors import ImageError

MAX_BYTES = 20 << 20
MAX_REDIRECTS = 3
SECONDS = 10.0
"""For everything: redirects, headers and body."""

_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_UNNAMED = ("", "application/octet-stream", "binary/octet-stream")
_HEADERS = {"User-Agent": "finetune_assets", "Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"}


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, and not to this machine, its network or a translator."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        # Addresses that carry an IPv4 address inside may lead to a private one.
        if ip.sixtofour or ip.teredo or ip.is_site_local or any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def addresses(host: str, port: int) -> list[str]:
    """Look up the host's IP addresses.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches images with a resolver, a rule for addresses and trusted certificates of one's choice."""

    resolve: Callable[[str, int], Sequence[str]] = addresses
    allows: Callable[[str], bool] = is_public
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    seconds: float = SECONDS
    max_bytes: int = MAX_BYTES

    def fetch(self, url: str) -> bytes:
        """Fetch an image.

        Raises:
            ImageError: the URL is not one of an image of at most `max_bytes` on a public server that answers within
                `seconds`.
        """
        deadline = time.monotonic() + self.seconds
        for _ in range(1 + MAX_REDIRECTS):
            parts = _parsed(url)
            try:
                answer = self._get(parts, deadline)
            except ImageError:
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _refusal(f"{_shown(parts)} is not a public server that answers in time and in order") from error
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise _refusal(f"{_shown(_parsed(url))} redirects more than {MAX_REDIRECTS} times")

    def _get(self, url: SplitResult, deadline: float) -> bytes | str:
        """Return the image, or where the server redirects to."""
        host, port = url.hostname or "", url.port or 443
        connection = http.client.HTTPSConnection(host, port, context=self.tls)
        connection.sock = self._connect(host, port, deadline)
        # A server that sends a byte now and then never meets the timeout of a single read.
        clock = threading.Timer(max(0.0, deadline - time.monotonic()), _break, [connection.sock])
        clock.daemon = True
        clock.start()
        try:
            target = quote(url.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{_query(url)}" if url.query else "")
            connection.request("GET", target, headers=_HEADERS)
            return _read(connection.getresponse(), url, deadline, self.max_bytes)
        finally:
            clock.cancel()
            connection.close()

    def _connect(self, host: str, port: int, deadline: float) -> ssl.SSLSocket:
        found = self.resolve(host, port)
        if not found or not all(self.allows(address) for address in found):
            raise OSError("not public")
        plain = socket.create_connection((found[0], port), timeout=max(0.1, deadline - time.monotonic()))
        try:
            return self.tls.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refusal("the URL of an image is malformed") from None
    if parts.scheme != "https":
        raise _refusal("the URL of an image must begin with https:// or data:image/")
    if not parts.hostname or parts.username is not None or parts.password is not None or port == 0:
        raise _refusal("the URL of an image must name a host, and no user or password")
    return parts


def _read(response: http.client.HTTPResponse, url: SplitResult, deadline: float, max_bytes: int) -> bytes | str:
    _check_time(url, deadline)
    location = response.getheader("Location")
    if response.status in _REDIRECTS and location:
        return location
    if response.status != http.HTTPStatus.OK:
        raise _refusal(f"{_shown(url)} answered with the status {response.status}")
    kind = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
    # Object stores name what they were told nothing about so; whether it is an image shows when it is decoded.
    if not kind.startswith("image/") and kind not in _UNNAMED:
        raise _refusal(f"{_shown(url)} answered with something other than an image (Content-Type image/...)")
    data = bytearray()
    while piece := response.read1(1 << 16):
        data += piece
        if len(data) > max_bytes:
            raise ImageError("image_too_large", f"{_shown(url)} sent more than {max_bytes >> 20} MB")
    _check_time(url, deadline)
    if response.length:
        raise _refusal(f"{_shown(url)} broke off in the middle of the image")
    return bytes(data)


def _check_time(url: SplitResult, deadline: float) -> None:
    # A connection that was broken off because time is over looks like one that ends.
    if time.monotonic() >= deadline:
        raise _refusal(f"{_shown(url)} did not send the whole image in time")


def _query(url: SplitResult) -> str:
    return quote(url.query, safe="/%:@!$&'()*+,;=~?[]")


def _break(connection: socket.socket) -> None:
    # Of the plain socket: closing TLS in good order would wait for the other side.
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


def _shown(url: SplitResult) -> str:
    """Say whose URL it is; its path may hold a secret."""
    return f"the server {(url.hostname or '')[:100]!r} of an image"


def _refusal(detail: str) -> ImageError:
    return ImageError("image_unreachable", detail)
