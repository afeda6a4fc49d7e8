import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.data.gpu.outlines import Views, seen_bounds
from tunekit.data.polygons import Polygons, bounds_within
from tunekit.data.view import seen_region, view_matrix

SIZE = 60


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 12),
    shear=st.sampled_from([0, 30]),
    perspective=st.sampled_from([0, 0.001, 0.02]),
    degrees=st.sampled_from([0, 180]),
)
def test_many_canvases_at_once_are_as_one_after_another(seed, count, shear, perspective, degrees):
    rng = np.random.default_rng(seed)
    sides = rng.choice([SIZE, 2 * SIZE], 4)
    matrix = np.array(
        [
            view_matrix(
                side,
                scale=rng.uniform(0.3, 1.9),
                degrees=rng.uniform(-degrees, degrees),
                shear=tuple(rng.uniform(-shear, shear, 2)),
                perspective=tuple(rng.uniform(-perspective, perspective, 2)),
                centre=tuple(rng.uniform(0, SIZE, 2)),
            )
            for side in sides
        ]
    )
    canvas = np.sort(rng.integers(0, 4, count))
    corners = np.where(rng.random(count) < 0.2, 0, rng.integers(3, 9, count))
    points = (rng.uniform(-20, 2 * SIZE + 20, (corners.sum(), 2))).astype(np.float32)
    every = Polygons(corners, points)
    found = seen_bounds(every, canvas, Views(sides, matrix, SIZE))
    assert found.shape == (count, 4)
    for number in range(4):
        region = seen_region(int(sides[number]), matrix[number], (SIZE, SIZE))
        expected = bounds_within(every.chosen(canvas == number), region, matrix[number])
        np.testing.assert_allclose(found[canvas == number], expected, atol=1e-5)


def test_an_outline_around_all_that_is_seen_has_all_of_it_as_its_box():
    around = Polygons(np.array([3]), np.array([[-500, -500], [900, -500], [20, 900]], np.float32))
    views = Views(np.array([60]), np.eye(3)[None], 60)
    np.testing.assert_allclose(seen_bounds(around, np.array([0]), views), [[0, 0, 60, 60]], atol=1e-6)


def test_an_outline_beside_what_is_seen_has_no_box():
    beside = Polygons(np.array([3]), np.array([[70, 0], [90, 0], [80, 30]], np.float32))
    views = Views(np.array([60]), np.eye(3)[None], 60)
    np.testing.assert_array_equal(seen_bounds(beside, np.array([0]), views), [[0, 0, 0, 0]])
