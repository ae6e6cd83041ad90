"""Fetching images by URL: which addresses are spoken to, and what is taken. The other side is a real TLS server."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.dataset.web_images import Fetcher, is_public
from finetune_assets.errors import ImageError
from finetune_assets_tests.dataset.picture_server import HOST, png


def refused(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(ImageError) as refusal:
        fetcher.fetch(url)
    return str(refusal.value)


def test_a_picture_is_fetched(fetcher: Callable[..., Fetcher], port: int) -> None:
    assert fetcher().fetch(f"https://{HOST}:{port}/cat.png?size=1") == png()


def test_bytes_that_nobody_named_are_taken(fetcher: Callable[..., Fetcher], port: int) -> None:
    assert fetcher().fetch(f"https://{HOST}:{port}/bytes") == png()


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
    assert "in time" in refused(fetcher(seconds=0.5), f"https://{HOST}:{port}/slow")


@pytest.mark.parametrize(
    "url",
    ["http://a.b/c.png", "https://", "https:///c.png", "https://user:pass@a.b/c.png", "https://a.b:99999/", "https://[::",
     "file:///etc/passwd"],
)  # fmt: skip
def test_other_urls_are_refused_before_anything_is_looked_up(url: str) -> None:
    def never(_host: str, _port: int) -> list[str]:
        raise AssertionError("looked up")

    assert "the URL of an image" in refused(Fetcher(resolve=never), url)


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
