import base64
from pathlib import Path

import pytest

from finetune_assets.dataset.sources.kept_files import data_url_bytes, keep_image, write


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_same_bytes_are_kept_once_under_a_name_of_their_own() -> None:
    first, again, other = keep_image(b"one"), keep_image(b"one"), keep_image(b"two")
    assert first == again != other
    assert Path(first).is_absolute() and Path(first).read_bytes() == b"one"


def test_a_data_url_is_decoded_or_none() -> None:
    url = f"data:image/png;base64,{base64.b64encode(b'png').decode()}"
    assert data_url_bytes(url) == b"png"
    assert [data_url_bytes(bad) for bad in ("data:image/png,raw", "data:x;base64,%%%", "data:")] == [None, None, None]


def test_nothing_is_left_beside_a_file_that_was_written(tmp_path: Path) -> None:
    write(tmp_path / "a.json", b"[]")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
