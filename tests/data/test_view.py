from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.pictures import NOTHING, canvas_of, painted
from tunekit.data.polygons import bounds_within, packed
from tunekit.data.scene import FILL, Scene, Tile, mosaic
from tunekit.data.view import kept, moved, seen_region, take_view, view_matrix, warp

NO_TARGETS = np.zeros((0, 5), np.float32)


def coordinates(side: int) -> Scene:
    """A canvas whose red is the column and whose green is the row."""
    y, x = np.mgrid[:side, :side]
    return Scene(side, (Tile(np.dstack((x, y, 0 * x)).astype(np.uint8), 0, 0),), NO_TARGETS)


def scene_with(*targets: tuple[float, ...], side: int = 100) -> Scene:
    pixels = np.zeros((side, side, 3), np.uint8)
    return Scene(side, (Tile(pixels, 0, 0),), np.array(targets, np.float32))


def viewed(scene: Scene, augmentation, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    out = np.empty((size, size, 3), np.uint8)
    return out, take_view(scene, augmentation, np.random.default_rng(seed), out)


def test_a_quarter_turn_is_the_turned_array_to_the_pixel():
    scene = coordinates(64)
    out = np.empty((64, 64, 3), np.uint8)
    warp(scene, view_matrix(64, degrees=90, centre=(32, 32)), out)
    np.testing.assert_array_equal(out, np.rot90(scene.tiles[0].pixels))


def test_a_quarter_turn_turns_boxes_with_it():
    before = np.array([[0, 10, 20, 30, 50]], np.float32)
    after = moved(before, view_matrix(64, degrees=90, centre=(32, 32)))
    np.testing.assert_allclose(after, [[0, 20, 34, 50, 54]], atol=1e-4)  # (x, y) -> (y, 64 - x)


def test_a_shift_by_whole_pixels_moves_pixels_as_they_are():
    scene = coordinates(64)
    out = np.empty((64, 64, 3), np.uint8)
    warp(scene, view_matrix(64, centre=(32 + 7, 32 - 5)), out)
    expected = np.full((64, 64, 3), FILL, np.uint8)
    expected[:59, 7:] = scene.tiles[0].pixels[5:, :57]
    np.testing.assert_array_equal(out, expected)


def test_twice_the_scale_shows_the_middle_half():
    scene = coordinates(64)
    out = np.empty((64, 64, 3), np.uint8)
    warp(scene, view_matrix(64, scale=2, centre=(32, 32)), out)
    middle = scene.tiles[0].pixels[15:49, 15:49]
    expected = cv2.resize(middle, (68, 68), interpolation=cv2.INTER_LINEAR)[2:-2, 2:-2]
    np.testing.assert_allclose(out.astype(int), expected, atol=1)


def test_shear_and_perspective_follow_their_formulas():
    def point(x, y, **view):
        a, b, c = view_matrix(100, centre=(50, 50), **view) @ [x, y, 1]
        return a / c, b / c

    assert point(50, 90, shear=(45, 0)) == pytest.approx((90, 90))
    assert point(90, 50, shear=(0, 45)) == pytest.approx((90, 90))
    assert point(90, 70, perspective=(0.001, 0)) == pytest.approx((50 + 40 / 1.04, 50 + 20 / 1.04))
    assert point(90, 70, perspective=(0, 0.001)) == pytest.approx((50 + 40 / 1.02, 50 + 20 / 1.02))
    assert point(90, 50, degrees=30, scale=2) == pytest.approx((50 + 80 * 0.75**0.5, 50 - 40))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(0.1, 1.9),
    degrees=st.floats(-180, 180),
    shear=st.tuples(st.floats(-30, 30), st.floats(-30, 30)),
    perspective=st.tuples(st.floats(-0.001, 0.001), st.floats(-0.001, 0.001)),
    centre=st.tuples(st.floats(-10, 74), st.floats(-10, 74)),
)
def test_painting_only_what_is_seen_equals_warping_the_whole_canvas(
    seed, scale, degrees, shear, perspective, centre
):
    scene = mosaic(painted(8, 64, (16, 12)), 0, np.random.default_rng(seed))
    matrix = view_matrix(
        128, scale=scale, degrees=degrees, shear=shear, perspective=perspective, centre=centre
    )
    out = np.empty((64, 64, 3), np.uint8)
    warp(scene, matrix, out)
    half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    pixel_matrix = half @ matrix @ np.linalg.inv(half)
    expected = cv2.warpPerspective(
        canvas_of(scene), pixel_matrix, (64, 64), flags=cv2.INTER_LINEAR, borderValue=(FILL,) * 3
    )
    np.testing.assert_allclose(out.astype(int), expected, atol=2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(0, 0.5), translate=st.floats(0, 0.5))
def test_a_zoomed_view_lies_within_a_pixel_of_the_one_that_was_drawn(seed, scale, translate):
    """Red and green of the view tell which canvas pixel is seen."""
    size = 100
    out, _ = viewed(coordinates(2 * size), replace(NOTHING, scale=scale, translate=translate), seed, size)
    draws = np.random.default_rng(seed).uniform(-1, 1, 8)
    centre = size * (0.5 + translate * draws[1:3])
    back = np.linalg.inv(view_matrix(2 * size, scale=1 + scale * draws[0], centre=tuple(centre)))
    y, x = np.mgrid[:size, :size] + 0.5
    expected = np.dstack([x, y, np.ones_like(x)]) @ back.T - 0.5
    seen = ((expected[:, :, :2] > 2) & (expected[:, :, :2] < 2 * size - 3)).all(axis=2)
    seen[[0, -1]] = seen[:, [0, -1]] = False  # there the resized window ends
    off = out[seen][:, :2] - expected[seen][:, :2]
    # Snapping moves the middle by half a pixel and the edges by three quarters; OpenCV's integer
    # arithmetic is off by up to one in a pixel's colour, and by little on average.
    assert np.abs(off).max(initial=0) < 1.8
    assert np.abs(off.mean(axis=0) if len(off) else 0).max() < 0.85


def test_scales_and_shifts_are_drawn_evenly_from_their_ranges():
    scene = scene_with((0, 45, 45, 55, 55), side=100)
    augmentation = replace(NOTHING, scale=0.4, translate=0.2)
    views = [viewed(scene, augmentation, seed, 100)[1][0, 1:] for seed in range(800)]
    scales = np.array([(x2 - x1) / 10 for x1, y1, x2, y2 in views])
    assert scales.min() > 0.59
    assert scales.max() < 1.42
    assert scales.mean() == pytest.approx(1, abs=0.03)
    assert scales.std() == pytest.approx(0.8 / 12**0.5, abs=0.015)
    centres = np.array([((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in views])
    assert centres.min() > 28.5
    assert centres.max() < 71.5
    np.testing.assert_allclose(centres.mean(axis=0), 50, atol=1.3)
    np.testing.assert_allclose(centres.std(axis=0), 40 / 12**0.5, atol=0.8)


def test_both_ways_of_drawing_a_view_put_the_same_boxes_in_the_same_places():
    """A rotation by next to nothing takes the general way; the upright one is a shortcut."""
    scene = scene_with((0, 20, 30, 60, 50), (1, 70, 60, 90, 95))
    for seed in range(40):
        fast = viewed(scene, replace(NOTHING, scale=0.5, translate=0.1), seed, 100)[1]
        slow = viewed(scene, replace(NOTHING, scale=0.5, translate=0.1, degrees=1e-9), seed, 100)[1]
        np.testing.assert_allclose(fast, slow, atol=1.2)  # 0.75 canvas pixels, at scales up to 1.5


@pytest.mark.parametrize("shape", [(64, 100), (100, 36)])
def test_a_rectangular_view_is_the_middle_of_the_square_one(shape):
    scene = mosaic(painted(8, 64, (16, 12)), 0, np.random.default_rng(0))
    augmentation = replace(NOTHING, scale=0.4, degrees=30, shear=5, perspective=0.001)
    top, left = (100 - shape[0]) // 2, (100 - shape[1]) // 2
    for seed in range(10):
        square, _ = viewed(scene, augmentation, seed, 100)
        out = np.empty((*shape, 3), np.uint8)
        targets = take_view(scene, augmentation, np.random.default_rng(seed), out)
        middle = square[top : top + shape[0], left : left + shape[1]]
        assert np.abs(out.astype(int) - middle).max() <= 2
        assert (targets[:, 1:] >= 0).all()
        assert (targets[:, 3:] <= shape[::-1]).all()


def test_boxes_of_outlined_objects_are_those_of_the_reference():
    """Measured with the reference's own perspective, given this matrix."""
    outlines = [
        [(10, 10), (60, 20), (30, 70)],
        [(70, 60), (110, 80), (90, 120), (60, 100)],
        [(100, 5), (125, 5), (125, 40)],
        [(2, 90), (30, 90), (30, 126), (2, 126)],
        [(40, 80), (50, 85), (45, 95)],
    ]
    matrix = view_matrix(
        128, scale=1.3, degrees=25, shear=(5, -3), perspective=(0.0008, -0.0005), centre=(80, 40)
    )
    polygons = packed([np.array(points, np.float32) for points in outlines])
    expected = [
        [0, 0, 47.1, 68.54],
        [84.14, 30.83, 128, 87.24],
        [0, 0, 0, 0],  # out of sight
        [23.35, 92.79, 76.85, 128],
        [62.85, 73.42, 78.71, 88.74],
    ]
    found = bounds_within(polygons, seen_region(128, matrix, (128, 128)), matrix)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_an_outlined_object_is_kept_down_to_a_hundredth_of_it():
    """A rectangle of which the view shows a part on its left; it alone changes from seed to seed."""
    rectangle = packed([np.array([(0, 0), (100, 0), (100, 50), (0, 50)], np.float32)])
    plain = scene_with((0, 0, 0, 100, 50))
    outlined = replace(plain, polygons=rectangle)
    widths = {True: [], False: []}
    for seed in range(300):
        for scene in (plain, outlined):
            targets = viewed(scene, replace(NOTHING, translate=1.0), seed, 100)[1]
            widths[scene is outlined] += [((row[3] - row[1]) * (row[4] - row[2])) for row in targets]
    assert 500 < min(widths[False]) < 600  # of 5000
    assert 50 < min(widths[True]) < 150


def test_a_box_is_kept_when_enough_of_it_is_left():
    def keeps(before, after, scale=1.0):
        rows = [np.array([[0, *box]], np.float32) for box in (before, after)]
        return len(kept(*rows, scale, 200)) == 1

    assert keeps((0, 0, 50, 50), (-44, 0, 6, 50))  # 12% of it
    assert not keeps((0, 0, 50, 50), (-46, 0, 4, 50))  # 8%
    assert not keeps((0, 0, 4, 4), (0, 0, 2, 4))
    assert keeps((0, 0, 4, 4), (0, 0, 2.1, 4))
    assert keeps((0, 0, 50, 50), (0, 0, 10, 10), scale=0.2)  # all of it, at this scale
    assert not keeps((0, 0, 50, 50), (0, 0, 10, 10))
    assert not keeps((0, 0, 3, 1), (-100, 0, 400, 1.9))
    assert not keeps((0, 0, 100, 1), (0, 0, 200.0, 1.99))


def test_what_the_horizon_cuts_has_no_box_and_leaves_no_ghost():
    matrix = view_matrix(100, perspective=(-0.02, 0), centre=(50, 50))  # the horizon is at x = 100
    behind = moved(np.array([[0, 90, 10, 105, 20]], np.float32), matrix)
    assert len(kept(np.ones((1, 5), np.float32), behind, 1, 100)) == 0
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[:, 180:] = 255  # the horizon is at x = 175: this is behind the camera
    out = np.empty((100, 100, 3), np.uint8)
    warp(
        Scene(300, (Tile(pixels, 0, 0),), NO_TARGETS),
        view_matrix(300, perspective=(-0.04, 0), centre=(50, 50)),
        out,
    )
    assert not (out == 255).any()
