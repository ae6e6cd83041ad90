import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from finetune_assets.dataset.pixels.window import KEPT_GREYS, to_eight_bits
from finetune_assets.errors import ImageError

RAMP = np.linspace(0, 4095, 64 * 64).reshape(64, 64)
"""All values of 12 bits, from the dark corner to the light one."""


def greys(values: np.ndarray, window: tuple[float, float] | None = None) -> np.ndarray:
    return np.asarray(to_eight_bits(values, window).image)


def hot(values: np.ndarray, value: float) -> np.ndarray:
    changed = values.copy()
    changed[0, 0] = value
    return changed


@pytest.mark.parametrize(
    ("values", "by"),
    [
        (RAMP.astype(np.uint16), "image"),
        ((RAMP * 16).astype(np.uint16), "file"),
        ((RAMP * 1e5).astype(np.uint32), "image"),
        ((RAMP * 1e5 - 2e8).astype(np.int32), "image"),
        ((RAMP / 4095).astype(np.float32), "image"),
        ((RAMP - 1024).astype(np.int16), "image"),
        ((RAMP / 16).astype(np.uint16), "image"),
    ],
    ids=["12 bit", "16 bit", "32 bit", "32 bit signed", "float", "Hounsfield", "8 bit in 16"],
)
def test_images_of_every_depth_keep_all_the_greys_there_are(values: np.ndarray, by: str) -> None:
    shown = to_eight_bits(values)
    assert len(np.unique(np.asarray(shown.image))) == 256
    assert shown.scale is not None and shown.scale.by == by


def test_sixteen_bits_that_are_used_are_shown_in_one_range() -> None:
    found = to_eight_bits((RAMP * 15).astype(np.uint16)).scale
    assert found is not None and (found.low, found.high) == (0, 65535)


def test_a_window_is_the_range_and_values_outside_are_its_ends() -> None:
    shown = greys((RAMP - 1024).astype(np.int16), (-160, 240)).astype(int)
    values = (RAMP - 1024).astype(np.int16).astype(int)
    assert (shown[values <= -160] == 0).all() and (shown[values >= 240] == 255).all()
    assert shown[values == 40][0] == 128
    assert len(np.unique(shown)) == 256


@pytest.mark.parametrize("outlier", [4096 + 2000, 65535])
def test_a_hot_pixel_does_not_blacken_the_rest(outlier: int) -> None:
    shown = greys(hot(RAMP.astype(np.uint16), outlier))
    assert len(np.unique(shown)) >= 250
    assert shown[0, 0] == 255


def test_an_image_whose_greys_no_range_keeps_is_refused_with_the_remedy() -> None:
    values = np.zeros((64, 64), np.uint16)
    values[:32] = 30_000 + np.arange(32 * 64).reshape(32, 64) % 100
    with pytest.raises(ImageError, match=r"image_few_greys: no range keeps .* of its 101 greys from 0 to 30099; name"):
        to_eight_bits(values)
    assert len(np.unique(greys(values, (29_999, 30_100)))) == 101


def test_a_dark_image_in_the_window_of_all_others_stays_dark() -> None:
    shown = greys((RAMP / 5).astype(np.uint16), (0, 4095))
    assert shown.max() == 51


def test_a_window_that_loses_the_greys_is_refused() -> None:
    with pytest.raises(ImageError, match="image_few_greys: the window from 0 to 65535 keeps 17 of its 4,096 greys"):
        to_eight_bits(RAMP.astype(np.uint16), (0, 65535))
    with pytest.raises(ImageError, match="image_blank: the window from 5000 to 6000 tells none of its values"):
        to_eight_bits(RAMP.astype(np.uint16), (5000, 6000))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ImageError, match="image_not_finite"):
        to_eight_bits(hot(RAMP.astype(np.float32), value))


def test_one_value_is_a_blank_image() -> None:
    with pytest.raises(ImageError, match="image_blank: all its pixels are 7"):
        to_eight_bits(np.full((8, 8), 7, np.uint16))


def test_the_classes_of_a_mask_are_told_apart() -> None:
    assert np.unique(greys(np.array([[0, 1], [2, 3]], np.uint16))).tolist() == [0, 85, 170, 255]


def test_white_may_be_the_lowest_value() -> None:
    values = RAMP.astype(np.uint16)
    assert np.array_equal(np.asarray(to_eight_bits(values, white_is_low=True).image), 255 - greys(values))


def test_colours_share_one_range() -> None:
    red = np.stack([RAMP, RAMP / 2, RAMP / 4], -1).astype(np.uint16)
    shown = greys(red)
    assert shown[-1, -1].tolist() == [255, 127, 64]


def test_unsigned_bytes_stay_as_they_are() -> None:
    values = np.array([[10, 20]], np.uint8)
    assert to_eight_bits(values).scale is None
    assert np.array_equal(greys(values), values)


@given(
    arrays.arrays(
        st.sampled_from([np.uint16, np.int16, np.int32, np.float32]),
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.integers(0, 30_000),
    )
)
def test_an_image_keeps_half_of_its_greys_and_their_order_or_is_refused(values: np.ndarray) -> None:
    try:
        shown = to_eight_bits(values)
    except ImageError as error:
        assert error.reason in ("image_blank", "image_few_greys")
        return
    greys_ = np.asarray(shown.image).astype(int)
    assert shown.scale is not None
    inside = np.unique(values[(values >= shown.scale.low) & (values <= shown.scale.high)])
    assert len(np.unique(greys_)) >= min(KEPT_GREYS, len(inside) // 2)
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(greys_.reshape(-1)[order]) >= 0).all()


def test_a_declared_range_that_holds_none_of_the_values_is_passed_over() -> None:
    shown = to_eight_bits(np.arange(4096, dtype=np.int32).reshape(64, 64), declared=(9000, 9100))
    assert shown.scale is not None and (shown.scale.by, shown.scale.high) == ("image", 4095)
