"""Fetching images by URL: which addresses are spoken to, and what is taken. The other side is a real TLS server."""

from __future__ import annotations

import datetime as dt
import io
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.errors import ImageError
from finetune_assets.server.model import remote_images
from finetune_assets.server.model.remote_images import Fetcher, fetch, is_public
from finetune_assets_tests.server.networks import picture

HOST = "images.test"


def png() -> bytes:
    buffer = io.BytesIO()
    picture("red").save(buffer, "PNG")
    return buffer.getvalue()


class Pictures(BaseHTTPRequestHandler):
    """Sends a picture, or what else the path asks for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name, _, rest = self.path.strip("/").partition("/")
        if name == "to":
            self._answer(302, b"", Location=rest)
        elif name == "loop":
            self._answer(302, b"", Location=f"/loop/{int(rest or 0) + 1}")
        elif name == "page":
            self._answer(200, b"<html>", **{"Content-Type": "text/html"})
        elif name == "none":
            self._answer(404, b"")
        elif name == "large":
            self._answer(200, b"x" * (remote_images.MAX_BYTES + 1), **{"Content-Type": "image/png"})
        elif name == "slow":
            self._drip()
        else:
            self._answer(200, png(), **{"Content-Type": "image/png; charset=x"})

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the client may have heard enough
            self.wfile.write(body)

    def _drip(self) -> None:
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                self.wfile.write(b"X-Slow: 1\r\n")
                time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for HOST, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    days = (now - dt.timedelta(days=1), now + dt.timedelta(days=1))
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), *days)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    made = builder.sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    """Where the pictures are."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@pytest.fixture
def fetcher(certificate: Path) -> Callable[..., Fetcher]:
    """A fetcher that trusts the certificate and finds every host on this machine, which it takes for public."""

    def make(**changed: object) -> Fetcher:
        tls = ssl.create_default_context(cafile=str(certificate))
        wanted = {"resolve": lambda host, port: ["127.0.0.1"], "allows": lambda address: True, "tls": tls}
        return Fetcher(**(wanted | changed))  # pyright: ignore[reportArgumentType]

    return make


def refused(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(ImageError) as refusal:
        fetcher.fetch(url)
    return str(refusal.value)


def test_a_picture_is_fetched(fetcher: Callable[..., Fetcher], port: int) -> None:
    assert fetcher().fetch(f"https://{HOST}:{port}/cat.png?size=1") == png()


def test_redirects_are_followed_three_times(fetcher: Callable[..., Fetcher], port: int) -> None:
    assert fetcher().fetch(f"https://{HOST}:{port}/to//to//to//cat.png") == png()
    assert "redirects more than 3 times" in refused(fetcher(), f"https://{HOST}:{port}/loop")


def test_this_machine_is_not_spoken_to(fetcher: Callable[..., Fetcher], port: int) -> None:
    for url in (f"https://{HOST}:{port}/", f"https://127.0.0.1:{port}/", f"https://[::1]:{port}/"):
        assert "is not a public server" in refused(fetcher(allows=is_public), url)


def test_a_redirect_to_a_private_address_is_refused(fetcher: Callable[..., Fetcher], port: int) -> None:
    asked: list[str] = []

    def allows(address: str) -> bool:
        asked.append(address)
        return address == "127.0.0.1"

    private = fetcher(resolve=lambda host, port: ["10.0.0.1" if host == "10.0.0.1" else "127.0.0.1"], allows=allows)
    assert "'10.0.0.1' of an image is not a public server" in refused(
        private, f"https://{HOST}:{port}/to/https://10.0.0.1/"
    )
    assert asked == ["127.0.0.1", "10.0.0.1"]
    assert "must begin with https://" in refused(private, f"https://{HOST}:{port}/to/http://{HOST}/")


def test_the_connection_goes_to_the_address_that_was_checked(fetcher: Callable[..., Fetcher], port: int) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    rebound = fetcher(resolve=lambda host, port: next(answers), allows=lambda address: address == "127.0.0.1")
    assert rebound.fetch(f"https://{HOST}:{port}/") == png()
    assert list(answers) == [["10.0.0.1"]]


def test_a_host_with_one_private_address_is_refused_whole(fetcher: Callable[..., Fetcher], port: int) -> None:
    both = fetcher(resolve=lambda host, port: ["127.0.0.1", "10.0.0.1"], allows=lambda address: address != "10.0.0.1")
    assert "is not a public server" in refused(both, f"https://{HOST}:{port}/")


def test_what_is_inside_shows_in_no_error(fetcher: Callable[..., Fetcher], port: int) -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    url = f"https://{HOST}:{port}/secret"
    told = {
        refused(fetcher(resolve=unknown), url),
        refused(fetcher(allows=lambda address: False), url),
        refused(fetcher(), f"https://{HOST}:1/secret"),
        refused(fetcher(tls=ssl.create_default_context()), url),
    }
    assert len(told) == 1
    assert "secret" not in told.pop()


def test_the_certificate_is_checked_against_the_name(fetcher: Callable[..., Fetcher], port: int) -> None:
    assert "is not a public server" in refused(fetcher(), f"https://other.test:{port}/")


@pytest.mark.parametrize(
    ("path", "told"),
    [("page", "something other than an image"), ("none", "status 404"), ("large", "more than 20 MB")],
)
def test_only_images_within_limits_are_taken(fetcher: Callable[..., Fetcher], port: int, path: str, told: str) -> None:
    assert told in refused(fetcher(), f"https://{HOST}:{port}/{path}")


def test_a_server_that_drips_is_given_up_in_time(fetcher: Callable[..., Fetcher], port: int) -> None:
    started = time.monotonic()
    assert "in time" in refused(fetcher(seconds=0.5), f"https://{HOST}:{port}/slow")
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    "url",
    ["http://a.b/c.png", "https://", "https:///c.png", "https://user:pass@a.b/c.png", "https://a.b:99999/", "https://[::",
     "file:///etc/passwd"],
)  # fmt: skip
def test_other_urls_are_refused_before_anything_is_looked_up(url: str) -> None:
    def never(_host: str, _port: int) -> list[str]:
        raise AssertionError("looked up")

    assert "the URL of an image" in refused(Fetcher(resolve=never), url)


def test_nothing_is_fetched_unless_it_is_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(remote_images.SWITCH, raising=False)
    with pytest.raises(ImageError, match="--fetch-images"):
        fetch("https://example.com/cat.png")
    monkeypatch.setenv(remote_images.SWITCH, "1")
    with pytest.raises(ImageError, match="is not a public server"):
        fetch("https://127.0.0.1/cat.png")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1", "224.0.0.1",
     "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254",
     "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1",
     "2001:0:53aa:64c:0:0:f5ff:fffe"],
)  # fmt: skip
def test_private_and_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses())
def test_what_is_public_is_global(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(str(address)) or address.is_global or getattr(address, "ipv4_mapped", None)
