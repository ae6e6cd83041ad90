import pytest

from finetune_assets.errors import ImageError
from finetune_assets.server.model import remote_images
from finetune_assets.server.model.remote_images import fetch


def test_nothing_is_fetched_unless_it_is_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(remote_images.SWITCH, raising=False)
    with pytest.raises(ImageError, match="--fetch-images"):
        fetch("https://example.com/cat.png")
    monkeypatch.setenv(remote_images.SWITCH, "1")
    with pytest.raises(ImageError, match="is not a public server"):
        fetch("https://127.0.0.1/cat.png")
