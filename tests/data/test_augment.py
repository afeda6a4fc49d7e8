from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.pictures import NOTHING, Pictures, bounds, bounds_near, classes_in, diamonds, mask_of, painted
from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation, augmented

SOURCE = painted(36, 160)
AREA = 40 * 30  # pixels of an object of SOURCE


def drawn(augmentation, seed, *, mosaic=True, source=SOURCE, index=0):
    return augmented(source, index, augmentation, np.random.default_rng(seed), mosaic=mosaic)


def check_form(image, targets, imgsz=160):
    assert image.shape == (imgsz, imgsz, 3)
    assert image.dtype == np.uint8
    assert targets.dtype == np.float32
    assert targets.shape == (len(targets), 5)
    assert (targets[:, 1:] >= 0).all()
    assert (targets[:, 1:] <= imgsz).all()
    assert (targets[:, 3:] - targets[:, 1:3] > 2).all() or len(targets) == 0


def test_settings_are_those_of_the_arguments():
    a = Augmentation.from_args(TrainArgs(degrees=12, mixup=0.3, copy_paste_mode="mixup"))
    assert (a.degrees, a.mixup, a.mosaic, a.hsv_s, a.copy_paste_mode) == (12, 0.3, 1, 0.7, "mixup")


@pytest.mark.parametrize("index", [0, 1])
def test_with_everything_off_the_letterboxed_image_comes_back_unchanged(index):
    image, targets = drawn(NOTHING, 0, index=index)
    original = SOURCE.images[index]
    expected = np.full((160, 160, 3), 114, np.uint8)
    window = expected[20:140] if index else expected[:, 20:140]
    window[:] = original
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_allclose(targets[:, 1:], [bounds(mask_of(image, index))], atol=1e-4)
    check_form(image, targets)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(0, 0.9),
    translate=st.floats(0, 0.5),
    flips=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    mosaic=st.sampled_from([0.0, 0.5, 1.0]),
    cutmix=st.sampled_from([0.0, 1.0]),
)
def test_boxes_stay_on_their_objects_when_zoomed_shifted_flipped_and_cut(
    seed, scale, translate, flips, mosaic, cutmix
):
    a = replace(NOTHING, scale=scale, translate=translate, flipud=flips[0], fliplr=flips[1], mosaic=mosaic)
    image, targets = drawn(replace(a, cutmix=cutmix), seed)
    check_form(image, targets)
    classes = classes_in(image)
    for target in targets:
        if (target[3:] - target[1:3]).min() > 6:
            found = bounds_near(classes, target, margin=3)
            np.testing.assert_allclose(found, target[1:], atol=2, err_msg=str(target))
    if not cutmix:
        no_object_without_a_box(classes, targets, margin=2)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    degrees=st.floats(0, 180),
    shear=st.floats(0, 20),
    perspective=st.sampled_from([0, 0.0005, 0.001]),
    mosaic=st.booleans(),
)
def test_boxes_stay_on_their_objects_when_turned_sheared_and_tilted(
    seed, degrees, shear, perspective, mosaic
):
    a = replace(NOTHING, degrees=degrees, shear=shear, perspective=perspective, scale=0.5, translate=0.1)
    image, targets = drawn(replace(a, mosaic=float(mosaic)), seed)
    check_form(image, targets)
    classes = classes_in(image)
    whole = targets[(targets[:, 1:] > 1).all(axis=1) & (targets[:, 1:] < 159).all(axis=1)]
    for target in whole:  # of an object that the edge cuts, the corners' box is larger than what is left
        if (target[3:] - target[1:3]).min() > 9:
            found = bounds_near(classes, target, margin=3)
            np.testing.assert_allclose(found, target[1:], atol=4, err_msg=str(target))
    no_object_without_a_box(classes, targets, margin=3)


DIAMONDS = diamonds(36, 160)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    degrees=st.sampled_from([0.0, 45.0, 180.0]),
    shear=st.sampled_from([0.0, 15.0]),
    perspective=st.sampled_from([0.0, 0.001]),
    flips=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    mosaic=st.booleans(),
)
def test_boxes_are_those_of_what_is_seen_of_outlined_objects(
    seed, degrees, shear, perspective, flips, mosaic
):
    """Also where the object is turned, and where the edge cuts it: there the corners' box is larger."""
    a = replace(NOTHING, degrees=degrees, shear=shear, perspective=perspective, scale=0.3, translate=0.3)
    a = replace(a, mosaic=float(mosaic), flipud=flips[0], fliplr=flips[1])
    image, targets = drawn(a, seed, source=DIAMONDS)
    check_form(image, targets)
    found_in_their_places(image, targets, tolerance=4)
    no_object_without_a_box(classes_in(image), targets, margin=3)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    mode=st.sampled_from(["flip", "mixup"]),
    outlined=st.booleans(),
    turned=st.booleans(),
    mosaic=st.booleans(),
)
def test_boxes_stay_on_their_objects_when_they_are_pasted(seed, mode, outlined, turned, mosaic):
    a = replace(NOTHING, copy_paste=1.0, copy_paste_mode=mode, mosaic=float(mosaic), scale=0.3, fliplr=0.5)
    if turned and outlined:
        a = replace(a, degrees=90, shear=5)
    source = DIAMONDS if outlined else SOURCE
    plain = drawn(replace(a, copy_paste=0.0), seed, source=source)[1]
    image, targets = drawn(a, seed, source=source)
    check_form(image, targets)
    assert mosaic or len(targets) >= len(plain)
    found_in_their_places(image, targets, tolerance=4)
    # A copy may touch its original, so that they are one patch: each pixel of it lies in one of their boxes.
    classes = classes_in(image)
    for x1, y1, x2, y2 in np.column_stack((np.floor(targets[:, 1:3]), np.ceil(targets[:, 3:]))).astype(int):
        classes[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3] = -1
    no_object_without_a_box(classes, targets[:0], margin=0)


def test_copy_paste_takes_objects_of_the_same_picture_or_of_others():
    own, foreign = 0, 0
    for seed in range(60):
        _, targets = drawn(replace(NOTHING, copy_paste=1.0, copy_paste_mode="flip"), seed, index=2)
        assert (targets[:, 0] == 2).all()
        own += len(targets) - 1
        _, targets = drawn(replace(NOTHING, copy_paste=1.0, copy_paste_mode="mixup"), seed, index=2)
        foreign += (targets[:, 0] != 2).sum()
    assert own in (0, 60)  # by the mirrored place of picture 2's only object
    assert 30 < foreign < 60


def test_objects_of_others_are_pasted_with_the_square_of_the_probability():
    """As the reference does: so often another picture is asked, and so many of its objects are taken."""
    a = replace(NOTHING, copy_paste=0.5, copy_paste_mode="mixup")
    pasted = sum(len(drawn(a, seed, index=2)[1]) - 1 for seed in range(600))
    free = sum(len(drawn(replace(a, copy_paste=1.0), seed, index=2)[1]) - 1 for seed in range(600))
    assert abs(pasted / free - 0.25) < 0.06


def found_in_their_places(image, targets, tolerance):
    """Every object that none touches is where its box says; one tip of a diamond may be lost in blending."""
    classes = classes_in(image)
    for number, target in enumerate(targets):
        others = np.delete(targets, number, axis=0)
        apart = (others[:, 1:3] > target[3:] + 6).any(axis=1) | (others[:, 3:] < target[1:3] - 6).any(axis=1)
        if apart.all() and (target[3:] - target[1:3]).min() > 14:
            found = bounds_near(classes, target, margin=5)
            np.testing.assert_allclose(found, target[1:], atol=tolerance, err_msg=str(target))


def no_object_without_a_box(classes, targets, margin):
    """Every patch of an object's colour that is too large to be dropped lies in a box of its class."""
    for cls in np.unique(classes[classes >= 0]):
        _, _, stats, _ = cv2.connectedComponentsWithStats((classes == cls).astype(np.uint8))
        for x, y, w, h, area in stats[1:]:
            if area > 0.3 * AREA and min(w, h) > 4:
                x1, y1, x2, y2 = targets[targets[:, 0] == cls, 1:].T
                inside = (
                    (x1 - margin <= x) & (y1 - margin <= y) & (x + w <= x2 + margin) & (y + h <= y2 + margin)
                )
                assert inside.any(), (cls, x, y, w, h)


def test_flips_are_exact():
    plain, boxes = drawn(NOTHING, 3)
    sideways, lr = drawn(replace(NOTHING, fliplr=1), 3)
    upside_down, ud = drawn(replace(NOTHING, flipud=1), 3)
    np.testing.assert_array_equal(sideways, plain[:, ::-1])
    np.testing.assert_array_equal(upside_down, plain[::-1])
    x1, y1, x2, y2 = boxes[0, 1:]
    np.testing.assert_array_equal(lr[0, 1:], [160 - x2, y1, 160 - x1, y2])
    np.testing.assert_array_equal(ud[0, 1:], [x1, 160 - y2, x2, 160 - y1])


def test_a_flip_of_probability_a_quarter_happens_in_a_quarter_of_the_samples():
    plain, _ = drawn(NOTHING, 0)
    a = replace(NOTHING, fliplr=0.25)
    flipped = sum(not np.array_equal(drawn(a, seed)[0], plain) for seed in range(400))
    assert 70 < flipped < 130


@pytest.mark.parametrize("hsv", [0.0, 1e-9])
def test_bgr_swaps_red_and_blue(hsv):
    plain, _ = drawn(NOTHING, 0, index=30)
    swapped, _ = drawn(replace(NOTHING, bgr=1, hsv_s=hsv), 0, index=30)
    np.testing.assert_allclose(
        swapped.astype(int), plain[:, :, ::-1], atol=5 if hsv else 0
    )  # hue in 180 steps


def test_the_last_epochs_mix_and_paste_nothing():
    everything = replace(NOTHING, mosaic=1, mixup=1, cutmix=1, copy_paste=1)
    expected, boxes = drawn(NOTHING, 0)
    for seed in range(20):
        image, targets = drawn(everything, seed, mosaic=False)
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(targets, boxes)


def test_a_mosaic_of_probability_one_always_shows_other_pictures_and_of_zero_never():
    plain = [np.full((160, 160, 3), 5 * i, np.uint8) for i in range(36)]
    source = Pictures(plain, [np.zeros((0, 5), np.float32)] * 36, 160)
    for seed in range(20):
        image, _ = drawn(replace(NOTHING, mosaic=1), seed, source=source, index=7)
        assert len(np.unique(image)) > 1
        image, _ = drawn(replace(NOTHING, mosaic=0), seed, source=source, index=7)
        assert (image == 35).all()


def test_the_same_generator_gives_the_same_sample_and_another_one_another():
    a = Augmentation.from_args(TrainArgs(mixup=0.5, cutmix=0.5, copy_paste=0.5, degrees=5))
    first, again, other = drawn(a, 1), drawn(a, 1), drawn(a, 2)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_pictures_without_objects_pass_through_everything():
    bare = Pictures(SOURCE.images, [np.zeros((0, 5), np.float32)] * len(SOURCE), 160)
    a = replace(NOTHING, mosaic=1, mixup=1, cutmix=1, copy_paste=1, degrees=10, hsv_h=0.1, fliplr=1, flipud=1)
    image, targets = drawn(a, 0, source=bare)
    check_form(image, targets)
    assert len(targets) == 0


def test_one_picture_is_enough_for_a_mosaic():
    image, targets = drawn(Augmentation.from_args(TrainArgs(mixup=1)), 0, source=painted(1, 64, (10, 9)))
    check_form(image, targets, 64)
