import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.data.colour import STRIP, jitter, shift


def colours(seed: int, shape=(40, 50)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def slowly(image: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:
    """The definition, pixel by pixel in floating point."""
    out = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(image[place] / 255))
        out[place] = colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), min(v * value, 1))
    return out * 255


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    hue=st.floats(-0.5, 0.5),
    saturation=st.floats(0.3, 1.7),
    value=st.floats(0.6, 1.4),
)
def test_colours_shift_as_hsv_is_defined(seed, hue, saturation, value):
    image = colours(seed, (8, 9))
    expected = slowly(image, hue, saturation, value)
    shift(image, hue, saturation, value)
    # A step of the hue, one of 180, is 8.5 of a channel: half a step for the pixel, half for the shift.
    np.testing.assert_allclose(image, expected, atol=12)
    assert np.abs(image - expected).mean() < 2.5


def test_a_shift_of_nothing_changes_colours_by_no_more_than_rounding():
    image = colours(0)
    before = image.astype(int)
    shift(image, 0, 1, 1)
    assert np.abs(image - before).max() <= 6
    assert np.abs((image - before).mean()) < 0.5


@pytest.mark.parametrize("grey", [0, 114, 255])
def test_hue_and_saturation_leave_grey_alone(grey):
    image = np.full((8, 8, 3), grey, np.uint8)
    shift(image, 0.3, 1.7, 1)
    assert (image == grey).all()


def test_a_large_image_is_shifted_to_its_last_row():
    image = colours(1, (700, 600))
    assert image[..., 0].size > 10 * STRIP
    rows = image[[0, 66, 350, 699]].copy()
    shift(image, 0.1, 1.2, 0.8)
    shift(rows, 0.1, 1.2, 0.8)
    np.testing.assert_array_equal(image[[0, 66, 350, 699]], rows)


def test_swapping_red_and_blue_on_the_way_back_changes_nothing_else():
    image, swapped = colours(2), colours(2)
    shift(image, 0.1, 1.2, 0.8)
    shift(swapped, 0.1, 1.2, 0.8, swap=True)
    np.testing.assert_array_equal(swapped, image[:, :, ::-1])


def test_gains_bound_what_is_drawn_and_are_used_to_their_ends():
    brightness = []
    rng = np.random.default_rng(0)
    for _ in range(500):
        image = np.full((1, 1, 3), 100, np.uint8)
        jitter(image, (0, 0, 0.4), rng)
        brightness.append(int(image[0, 0, 0]))
    assert 60 <= min(brightness) <= 62
    assert 138 <= max(brightness) <= 140
    assert abs(np.mean(brightness) - 100) < 3
