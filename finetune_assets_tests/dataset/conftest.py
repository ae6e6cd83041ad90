"""A TLS server with pictures, and whoever trusts it."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from finetune_assets.dataset.web_images import Fetcher
from finetune_assets_tests.dataset.picture_server import HOST, Pictures


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
