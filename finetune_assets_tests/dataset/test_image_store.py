import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from upath import UPath

from finetune_assets.dataset.image_store import ImageStore, digest_of
from finetune_assets.dataset.images import read


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    place = str(tmp_path / "images") if request.param == "local" else f"memory://{tmp_path.name}/images"
    return ImageStore(UPath(place))


def test_an_image_is_kept_once_under_the_hash_of_its_bytes(store: ImageStore) -> None:
    address = store.keep(b"one")
    assert store.keep(b"one") == address != store.keep(b"two")
    assert digest_of(address) == hashlib.sha256(b"one").hexdigest()
    assert read(address) == b"one"


def test_many_may_keep_the_same_image_at_once(store: ImageStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(store.keep, [b"same"] * 64))
    assert len(addresses) == 1
    assert len([path for path in store.folder.rglob("*") if path.is_file()]) == 1


def test_what_was_fetched_under_a_name_is_found_again(store: ImageStore) -> None:
    assert store.fetched("https://a.example/b.png") is None
    store.note("https://a.example/b.png", store.keep(b"one"))
    assert read(store.fetched("https://a.example/b.png") or "") == b"one"


@pytest.mark.parametrize("address", ["/data/a.png", "/images/aa/" + "a" * 63, "/data/aa/" + "a" * 64])
def test_other_files_are_not_named_by_their_content(address: str) -> None:
    assert digest_of(address) is None
