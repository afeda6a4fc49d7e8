import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.data.colour import shift
from tunekit.data.gpu.colour import recolour


def colours(seed: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 9, 3), dtype=np.uint8)


def recoloured(images: np.ndarray, *changes: tuple[float, float, float, float, float]) -> np.ndarray:
    return recolour(torch.from_numpy(images).float(), torch.tensor(changes)).numpy()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    hue=st.floats(-0.5, 0.5),
    saturation=st.floats(0, 2),
    value=st.floats(0, 2),
)
def test_colours_shift_as_hsv_is_defined(seed, hue, saturation, value):
    images = colours(seed)
    expected = np.empty(images.shape)
    for place in np.ndindex(images.shape[:3]):
        h, s, v = colorsys.rgb_to_hsv(*(images[place] / 255))
        expected[place] = colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), min(v * value, 1))
    turned = 6 * hue
    found = recoloured(images, (5 + turned, 3 + turned, 1 + turned, saturation, value))
    np.testing.assert_allclose(found, 255 * expected, atol=0.01)


def test_they_shift_as_on_the_cpu_but_for_its_rounding_to_bytes():
    images = colours(1, 20)
    rng = np.random.default_rng(0)
    for image in images:
        steps, saturation, value = int(rng.integers(-90, 90)), rng.uniform(0.3, 1.7), rng.uniform(0.6, 1.4)
        turned = 6 * steps / 180
        [found] = recoloured(image[None], (5 + turned, 3 + turned, 1 + turned, saturation, value))
        shift(image, steps / 180, saturation, value)
        np.testing.assert_allclose(found, image, atol=8)
        assert abs(found - image).mean() < 1


def test_every_image_has_a_change_of_its_own_and_swapped_numbers_swap_red_and_blue():
    images = colours(2, 3)
    found = recoloured(images, (5, 3, 1, 1, 1), (1, 3, 5, 1, 1), (5, 3, 1, 1, 0.5))
    np.testing.assert_allclose(found[0], images[0], atol=0.01)
    np.testing.assert_allclose(found[1], images[1, :, :, ::-1], atol=0.01)
    np.testing.assert_allclose(found[2], images[2] / 2, atol=0.01)


@pytest.mark.parametrize("grey", [0, 1, 114, 255])
def test_hue_and_saturation_leave_grey_alone(grey):
    found = recoloured(np.full((1, 8, 9, 3), grey, np.uint8), (6.8, 4.8, 2.8, 1.7, 1))
    np.testing.assert_allclose(found, grey, atol=0.01)
