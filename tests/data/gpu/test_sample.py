"""A sample as the device makes it and as augment.py makes it from the same numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.gpu.pictures import outlined
from tests.data.gpu.script import Script
from tests.data.pictures import bounds_near, classes_in, painted
from tests.data.test_augment import NOTHING
from tunekit.data.augment import augment_into
from tunekit.data.gpu import pixels
from tunekit.data.gpu.chance import chance
from tunekit.data.gpu.pixels import Painter
from tunekit.data.gpu.plan import planned
from tunekit.data.gpu.store import album_of, stored

CPU = torch.device("cpu")
# With any rotation augment.py warps, too; an upright view it snaps to whole pixels of the canvas.
TURNED = 1e-9
ZOOMED = replace(NOTHING, degrees=TURNED, mosaic=0.7, scale=0.5, translate=0.1)


class Batches:
    """Batches of one source, drawn both ways."""

    def __init__(self, source, device=CPU, compile=False):
        self.source, self.album = source, album_of(source)
        self.painter = Painter(stored(source, self.album, device), compile)

    def drawn(self, a, seed=0, count=24, mosaic=True):
        """Images (B, h, w, 3) uint8, and each one's targets (n, 5)."""
        positions = np.arange(count)
        plan = planned(
            self.album, positions % len(self.source), chance(seed, 0, 0, positions), a, mosaic=mosaic
        )
        targets = np.column_stack((plan.classes, plan.boxes))
        images = self.painter.drawn(plan).permute(0, 2, 3, 1).cpu().numpy()
        return images, [targets[plan.rows == row] for row in positions]

    def expected(self, a, seed=0, count=24, mosaic=True):
        images, targets = np.empty((count, *(self.source.imgsz,) * 2, 3), np.uint8), []
        draws = chance(seed, 0, 0, np.arange(count))
        for row, image in enumerate(images):
            index = row % len(self.source)
            targets.append(augment_into(image, self.source, index, a, Script(draws, row), mosaic=mosaic))
        return images, targets


PAINTED, OUTLINED = Batches(painted(36, 64, (16, 12))), Batches(outlined(36, 64))


def check_alike(batches, a, levels=1, **settings):
    """Pixels differ by `levels` at most, boxes not at all."""
    images, targets = batches.drawn(a, **settings)
    expected_images, expected_targets = batches.expected(a, **settings)
    np.testing.assert_allclose(images.astype(int), expected_images, atol=levels)
    assert sum(map(len, targets))
    for found, expected in zip(targets, expected_targets, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("batches", [PAINTED, OUTLINED], ids=["painted", "outlined"])
@pytest.mark.parametrize(
    "changes",
    [
        {"mosaic": 0.0, "scale": 0.0, "translate": 0.0},
        {"mosaic": 1.0, "scale": 0.9, "translate": 0.5},
        {"fliplr": 0.5, "flipud": 0.5},
        {"mixup": 0.6, "fliplr": 0.5},
        {"cutmix": 1.0, "fliplr": 0.5, "flipud": 0.5},
        {"mixup": 0.5, "cutmix": 0.7, "bgr": 0.5, "fliplr": 0.5, "flipud": 0.2},
    ],
    ids=str,
)
def test_a_sample_is_the_one_that_the_cpu_makes_from_the_same_numbers(batches, changes):
    check_alike(batches, replace(ZOOMED, **changes))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    degrees=st.floats(1, 180),
    shear=st.floats(0, 20),
    perspective=st.sampled_from([0, 0.001, 0.02]),
    mix=st.booleans(),
)
def test_so_it_is_when_turned_sheared_and_tilted(seed, degrees, shear, perspective, mix):
    a = replace(
        ZOOMED, degrees=degrees, shear=shear, perspective=perspective, mixup=0.5 * mix, cutmix=0.5 * mix
    )
    check_alike(OUTLINED, a, seed=seed, count=8)


def test_so_it_is_with_other_colours_but_for_the_cpus_rounding_to_bytes():
    check_alike(PAINTED, replace(ZOOMED, hsv_h=0.2, hsv_s=0.7, hsv_v=0.4, bgr=0.5), levels=8)


def test_so_it_is_without_mosaic_in_the_last_epochs():
    check_alike(PAINTED, replace(ZOOMED, mixup=1, cutmix=1, mosaic=1, fliplr=0.5), mosaic=False)


def test_the_last_epochs_mix_nothing():
    a = replace(NOTHING, mosaic=1, mixup=1, cutmix=1)
    images, targets = PAINTED.drawn(a, mosaic=False)
    plain, boxes = PAINTED.drawn(NOTHING)
    np.testing.assert_array_equal(images, plain)
    np.testing.assert_array_equal(np.concatenate(targets), np.concatenate(boxes))


def test_with_everything_off_the_letterboxed_image_comes_back_unchanged():
    images, targets = PAINTED.drawn(NOTHING, count=2)
    for index, image in enumerate(images):
        expected = np.full((64, 64, 3), 114, np.uint8)
        window = expected[8:56] if index else expected[:, 8:56]
        window[:] = PAINTED.source.images[index]
        np.testing.assert_array_equal(image, expected)
        assert targets[index][0, 0] == index


def test_upright_pictures_are_those_that_a_rotation_by_next_to_nothing_gives():
    a = replace(ZOOMED, scale=0.9, translate=0.5, mixup=0.3, cutmix=0.3, fliplr=0.5, flipud=0.5)
    (upright, boxes), (turned, others) = PAINTED.drawn(replace(a, degrees=0)), PAINTED.drawn(a)
    np.testing.assert_allclose(upright.astype(int), turned, atol=1)
    np.testing.assert_allclose(np.concatenate(boxes), np.concatenate(others), atol=1e-4)


def test_drawing_a_batch_in_portions_changes_no_bit(monkeypatch):
    a = replace(ZOOMED, mixup=0.5, cutmix=0.5, fliplr=0.5, hsv_s=0.7, hsv_v=0.4)
    whole, _ = PAINTED.drawn(a)
    for rows in (1, 7):
        monkeypatch.setattr(pixels, "PIXELS_AT_A_TIME", rows * 64**2)
        np.testing.assert_array_equal(PAINTED.drawn(a)[0], whole)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(0, 0.9),
    translate=st.floats(0, 0.5),
    flips=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    cutmix=st.sampled_from([0.0, 1.0]),
)
def test_boxes_lie_on_their_objects(seed, scale, translate, flips, cutmix):
    a = replace(NOTHING, mosaic=0.7, scale=scale, translate=translate, flipud=flips[0], fliplr=flips[1])
    images, targets = PAINTED.drawn(replace(a, cutmix=cutmix), seed, count=6)
    for image, rows in zip(images, targets, strict=True):
        assert (rows[:, 1:] >= 0).all()
        assert (rows[:, 1:] <= 64).all()
        classes = classes_in(image)
        for target in rows:
            if (target[3:] - target[1:3]).min() > 6:
                found = bounds_near(classes, target, margin=3)
                np.testing.assert_allclose(found, target[1:], atol=2, err_msg=str(target))


@pytest.mark.slow
def test_compiled_drawing_draws_the_same():
    a = replace(ZOOMED, mixup=0.5, hsv_s=0.7, hsv_v=0.4)
    for changed in (a, replace(a, degrees=0)):
        found = Batches(PAINTED.source, compile=True).drawn(changed)[0].astype(int)
        np.testing.assert_allclose(found, PAINTED.drawn(changed)[0], atol=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_draws_what_the_cpu_draws():
    a = replace(ZOOMED, mixup=0.5, cutmix=0.5, perspective=0.001, hsv_h=0.2, hsv_s=0.7, hsv_v=0.4, bgr=0.5)
    for changed in (a, replace(a, degrees=0, perspective=0)):
        found = Batches(PAINTED.source, torch.device("cuda")).drawn(changed)[0].astype(int)
        np.testing.assert_allclose(found, PAINTED.drawn(changed)[0], atol=1)
