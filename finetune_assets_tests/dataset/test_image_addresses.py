"""Where images are read from: files, a TLS server, and an object store, all of them real."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import orjson
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image
from upath import UPath

from finetune_assets.dataset.image_addresses import ImageAddresses, read_named
from finetune_assets.dataset.image_store import ImageStore, digest_of
from finetune_assets.dataset.sampling import Sample, sample
from finetune_assets.dataset.sources import read
from finetune_assets.dataset.table import records
from finetune_assets.dataset.web_images import Fetcher
from finetune_assets.errors import ImageError
from finetune_assets.task import SPLITS, Prompt, Sampling
from finetune_assets.task.answers import BinaryAnswer
from finetune_assets.task.sources import ScoredImagesSource, window_of
from finetune_assets.training_file import jsonl
from finetune_assets_tests.dataset.picture_server import HOST, Pictures, png
from finetune_assets_tests.dataset.pictures import picture, put

ANSWER = BinaryAnswer(kind="binary")
ALL = Sampling(train=0.25, validation=0.25, calibration=0.25, test=0.25)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(UPath(tmp_path / "images"))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an object store on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str, bytes], str]]:
    """Puts an object and returns its URL."""
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": s3}.items():
        monkeypatch.setenv(name, value)
    client, name = boto3.client("s3", region_name="us-east-1"), tmp_path.name.replace("_", "-")[:60]
    client.create_bucket(Bucket=name)

    def put_object(key: str, data: bytes) -> str:
        client.put_object(Bucket=name, Key=key, Body=data)
        return f"s3://{name}/{key}"

    yield put_object


def sampled(folder: Path, table: str, addresses: ImageAddresses | None = None, **settings: object) -> Sample:
    path = put(folder / "labels.csv", table.encode())
    described = {"kind": "scored_images", "path": str(path), "region": "all", **settings}
    source = ScoredImagesSource.model_validate(described)
    out = UPath(folder / "out" / "sampled.parquet")
    examples = read(source, "all", ANSWER)
    return sample(examples, ALL, out, addresses=addresses, window=window_of(source))


def rows(found: Sample) -> list[dict[str, object]]:
    return records(found.table.frame())


def shown(folder: Path, found: Sample) -> list[np.ndarray]:
    """The pixels of the images in files made of the examples."""
    pictures = []
    for split in SPLITS:
        file = jsonl.build(found.table, Prompt(system="S", user="{question}"), split, folder / f"{split}.jsonl")
        for line in file.path.read_bytes().splitlines():
            parts = orjson.loads(line)["messages"][1]["content"]
            url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
            image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
            pictures.append(np.asarray(image.convert("RGB")))
    return pictures


def test_images_in_an_object_store_are_trained_on(tmp_path: Path, bucket: Callable[[str, bytes], str]) -> None:
    urls = [bucket(f"{shade}.png", picture(shade=shade)) for shade in (50, 90, 200)]
    missing = urls[0].replace("50.png", "none.png")
    found = sampled(tmp_path, "image_url,score\n" + "".join(f"{url},1\n" for url in [*urls, missing]))
    assert [row["problem"] for row in rows(found)] == [None, None, None, "image_missing"]
    assert sorted(int(pixels[-1, -1, 0]) for pixels in shown(tmp_path, found)) == [50, 90, 200]


def test_an_object_is_fetched_again_only_when_it_has_changed(
    store: ImageStore, bucket: Callable[[str, bytes], str]
) -> None:
    url, addresses = bucket("a.png", b"first"), ImageAddresses(store)
    first = addresses.read(url)
    assert addresses.read(url) == first
    bucket("a.png", b"second")
    assert addresses.read(url).data == b"second"


def test_an_image_on_the_web_is_fetched_once(store: ImageStore, fetcher: Callable[..., Fetcher], port: int) -> None:
    addresses, url = ImageAddresses(store, fetcher().fetch), f"https://{HOST}:{port}/once.png"
    found = addresses.read(url)
    assert (found.data, ImageAddresses(store, fetcher().fetch).read(url)) == (png(), found)
    assert Pictures.asked.count("/once.png") == 1
    UPath(found.address or "").unlink()
    assert addresses.read(url).data == png()


def test_addresses_that_fail_are_rows_of_their_own(
    tmp_path: Path, store: ImageStore, fetcher: Callable[..., Fetcher], port: int
) -> None:
    put(tmp_path / "a.png", picture())
    table = f"image_url,score\na.png,1\nhttps://{HOST}:{port}/none,0\nhttps://127.0.0.1:{port}/a.png,0\n../b.png,1\n"
    found = rows(sampled(tmp_path, table, ImageAddresses(store, fetcher(allows=lambda _: False).fetch)))
    assert [row["problem"] for row in found] == [None, "image_unreachable", "image_unreachable", "image_outside"]


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_scheme_without_its_package_names_the_extra(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    for package in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImageError, match=rf"image_unreachable: .*pip install 'finetune_assets\[{scheme}\]'"):
        ImageAddresses(store).read(f"{scheme}://bucket/a.png")


@pytest.mark.parametrize("window", [None, [0, 8191]])
def test_a_deep_image_is_trained_on_as_it_is_shown(tmp_path: Path, window: list[float] | None) -> None:
    values = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    put(tmp_path / "x.png", buffer.getvalue())
    extra: dict[str, Any] = {"window": window} if window else {}
    found = sampled(tmp_path, "image_url,score\nx.png,1\n", **extra)
    [row], [pixels] = rows(found), shown(tmp_path, found)
    assert (row["image_bits"], row["image_low"], row["image_high"]) == (16, *(window or (0, 4095)))
    assert row["image_range"] == ("task" if window else "image")
    assert len(np.unique(pixels)) == (128 if window else 256)
    with UPath(str(row["image"])).open("rb") as file:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file.read()))), pixels)


def test_bytes_inside_a_source_are_kept_beside_its_outputs(tmp_path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    found = rows(sampled(tmp_path, f'image_url,score\n"{url}",1\n'))
    assert digest_of(str(found[0]["image"])) == found[0]["image_sha256"]
    assert str(found[0]["image"]).startswith(str(tmp_path / "out" / "images"))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("http://169.254.169.254/latest/a.png", "is not read; name a path, or one of https://, s3://, gs://, az://"),
        ("file:///etc/hostname", "is not read"),
        ("https://127.0.0.1/a.png", "127.0.0.1"),
        ("gone.png", "there is no file"),
    ],
)
def test_an_image_that_somebody_asks_about_is_guarded_like_those_of_a_table(named: str, words: str) -> None:
    with pytest.raises(ImageError, match=re.escape(words)):
        read_named(named)
