"""What becomes of a request before it joins a batch."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from finetune_assets.server.generation.reader import WhileWanted
from finetune_assets.server.generation.requests import Generation
from finetune_assets.server.model.chat_encoding import ImageFeatures, PromptError
from finetune_assets.server.model.network import load
from finetune_assets_tests.server.networks import bundled_vision_base, data_url, picture


def test_images_are_not_looked_at_once_nobody_waits_for_the_answer(tmp_path: Path) -> None:
    features: ImageFeatures = ImageFeatures(load(bundled_vision_base(tmp_path)))
    future: Future[Generation] = Future()
    wanted = WhileWanted(features, future)
    assert wanted.of(data_url(picture("red"))) is features.of(data_url(picture("red")))
    future.cancel()
    with pytest.raises(PromptError, match="no longer waits"):
        wanted.of(data_url(picture("blue")))
