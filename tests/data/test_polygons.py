"""The box around what is seen of an outline, against a slow way to the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.data.polygons import Polygons, bounds_within, cut, joined, packed, rectangle, through
from tunekit.data.view import seen_region, view_matrix

SIDE = 64
STAY = np.eye(3)


def outline(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float32)


SQUARE = outline((10, 10), (30, 10), (30, 30), (10, 30))
TRIANGLE = outline((0, 0), (40, 0), (0, 40))


def bounds(points: np.ndarray, region, matrix=STAY) -> list[float]:
    return bounds_within(packed([points]), region, matrix)[0].tolist()


def star(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A point, and an outline of which every point is seen from it: dents, but no crossings."""
    middle, count = rng.uniform(0, SIDE, 2), rng.integers(4, 12)
    angles = 2 * np.pi * (np.arange(count) + rng.uniform(0, 0.9, count)) / count
    spokes = np.column_stack((np.cos(angles), np.sin(angles))) * rng.uniform(2, 40, (count, 1))
    return middle, (middle + spokes).astype(np.float32)


def slowly(middle: np.ndarray, points: np.ndarray, region, matrix: np.ndarray) -> np.ndarray:
    """The box around the triangles of a star, each clipped side by side (Sutherland and Hodgman)."""
    seen = []
    for number in range(len(points)):
        corners = [middle, points[number], points[(number + 1) % len(points)]]
        for a, b, c in region.sides:
            clipped = []
            for here, there in zip(corners, corners[1:] + corners[:1], strict=True):
                height, next_height = (a * x + b * y + c for x, y in (here, there))
                if height >= 0:
                    clipped.append(here)
                if (height >= 0) != (next_height >= 0):
                    share = height / (height - next_height)
                    clipped.append(np.array(here) + share * (np.array(there) - here))
            corners = clipped
        seen += corners
    if not seen:
        return np.zeros(4)
    moved = through(np.array(seen, np.float64), matrix)
    return np.concatenate((moved.min(axis=0), moved.max(axis=0)))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_the_box_is_that_of_what_lies_in_a_window(seed):
    rng = np.random.default_rng(seed)
    stars = [star(rng) for _ in range(3)]
    x, y = np.sort(rng.uniform(-20, 84, (2, 2)))
    region = rectangle(x[0], y[0], x[1], y[1])
    boxes = bounds_within(packed([None, *(points for _, points in stars)]), region, STAY)
    assert not boxes[0].any()
    for (middle, points), box in zip(stars, boxes[1:], strict=True):
        np.testing.assert_allclose(box, slowly(middle, points, region, STAY), atol=1e-4)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_the_box_is_that_of_what_a_turned_and_tilted_camera_sees(seed):
    rng = np.random.default_rng(seed)
    matrix = view_matrix(
        SIDE,
        degrees=rng.uniform(-180, 180),
        scale=rng.uniform(0.3, 2),
        perspective=tuple(rng.uniform(-0.02, 0.02, 2)),  # so much that the horizon may cross the canvas
        centre=tuple(rng.uniform(-10, 60, 2)),
    )
    region = seen_region(SIDE, matrix, (50, 40))
    middle, points = star(rng)
    box = bounds_within(packed([points]), region, matrix)[0]
    np.testing.assert_allclose(box, slowly(middle, points, region, matrix), atol=1e-3)


def test_what_is_wholly_inside_has_the_box_of_its_points():
    assert bounds(SQUARE, rectangle(0, 0, 64, 64)) == [10, 10, 30, 30]
    assert bounds(SQUARE, rectangle(10, 10, 30, 30)) == [10, 10, 30, 30]


def test_a_cut_outline_is_tighter_than_its_cut_box():
    # The box of the triangle, cut, would be (20, 15, 40, 40).
    assert bounds(TRIANGLE, rectangle(20, 15, 64, 64)) == pytest.approx([20, 15, 25, 20])


def test_a_window_within_an_outline_is_its_box():
    assert bounds(SQUARE, rectangle(12, 15, 20, 18)) == pytest.approx([12, 15, 20, 18])


def test_a_window_in_the_bay_of_an_outline_shows_nothing_of_it():
    bay = outline((0, 0), (60, 0), (60, 60), (50, 60), (50, 10), (10, 10), (10, 60), (0, 60))
    assert bounds(bay, rectangle(15, 15, 45, 55)) == [0, 0, 0, 0]
    assert bounds(bay, rectangle(5, 20, 55, 30)) == pytest.approx([5, 20, 55, 30])


def test_what_touches_a_window_from_outside_is_not_in_it():
    assert bounds(SQUARE, rectangle(30, 0, 64, 64)) == [0, 0, 0, 0]
    assert bounds(SQUARE, rectangle(40, 40, 64, 64)) == [0, 0, 0, 0]
    assert bounds(SQUARE, rectangle(20, 20, 20, 25)) == [0, 0, 0, 0]  # an empty window


def test_objects_without_an_outline_have_no_box_here():
    found = bounds_within(packed([None, SQUARE, None]), rectangle(0, 0, 64, 64), STAY)
    np.testing.assert_array_equal(found, [[0] * 4, [10, 10, 30, 30], [0] * 4])
    assert bounds_within(packed([None]), rectangle(0, 0, 64, 64), STAY).tolist() == [[0] * 4]
    assert bounds_within(packed([]), rectangle(0, 0, 64, 64), STAY).shape == (0, 4)


def test_a_region_is_cut_by_lines():
    left_of_x_plus_y_50 = np.array([[-1.0, -1.0, 50.0]])
    region = cut(rectangle(0, 0, 40, 40), left_of_x_plus_y_50)
    assert sorted(map(tuple, region.corners.tolist())) == [(0, 0), (0, 40), (10, 40), (40, 0), (40, 10)]
    assert len(cut(region, np.array([[1.0, 0.0, -50.0]])).corners) == 0


def test_packing_unpacks_and_choosing_keeps_outlines_with_their_objects():
    polygons = packed([SQUARE, None, TRIANGLE])
    assert len(polygons) == 3
    first, none, last = polygons.each()
    np.testing.assert_array_equal(first, SQUARE)
    assert none is None
    np.testing.assert_array_equal(last, TRIANGLE)
    none, last = polygons.chosen(np.array([False, True, True])).each()
    assert none is None
    np.testing.assert_array_equal(last, TRIANGLE)
    twice = joined((polygons, packed([TRIANGLE]))).each()
    assert [None if points is None else len(points) for points in twice] == [4, None, 3, 3]
    assert Polygons(np.zeros(2, np.int32), np.zeros((0, 2), np.float32)).each() == (None, None)
