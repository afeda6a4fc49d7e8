"""Objects that appear a second time: where, with which pixels, how often, and what they may cover."""

import time

import numpy as np
import pytest

from tests.data.pictures import canvas_of
from tunekit.data.paste import with_objects_of, with_pasted_objects
from tunekit.data.polygons import packed
from tunekit.data.scene import Scene, Tile


def with_objects(*boxes: tuple[float, float, float, float]) -> Scene:
    pixels = np.zeros((100, 100, 3), np.uint8)
    targets = []
    for cls, (x1, y1, x2, y2) in enumerate(boxes):
        pixels[y1:y2, x1:x2] = 50 + cls
        targets.append((cls, x1, y1, x2, y2))
    return Scene(100, (Tile(pixels, 0, 0),), np.array(targets, np.float32).reshape(-1, 5))


def test_copy_paste_shows_an_object_again_mirrored_and_with_a_box():
    scene = with_objects((10, 20, 30, 60))
    scene.tiles[0].pixels[20:60, 10:15] = 200  # its left edge
    pasted = with_pasted_objects(scene, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(pasted.targets, [[0, 10, 20, 30, 60], [0, 70, 20, 90, 60]])
    canvas = canvas_of(pasted)
    np.testing.assert_array_equal(canvas[20:60, 70:90], canvas[20:60, 10:30][:, ::-1])
    expected = canvas_of(scene)
    expected[20:60, 70:90] = expected[20:60, 10:30][:, ::-1]
    np.testing.assert_array_equal(canvas, expected)


def test_copy_paste_covers_less_than_a_third_of_any_object_that_is_there():
    beside = with_objects((10, 20, 30, 60), (73, 20, 93, 60))  # 17 of its 20 columns would be covered
    assert with_pasted_objects(beside, 1.0, np.random.default_rng(0)) is beside
    touching = with_objects((10, 20, 30, 60), (85, 20, 99, 60))  # 5 of 14 columns
    assert with_pasted_objects(touching, 1.0, np.random.default_rng(0)).targets[2:, 0].tolist() == [1]
    slightly = with_objects((10, 20, 30, 60), (87, 20, 99, 60))  # 3 of 12 columns
    assert with_pasted_objects(slightly, 1.0, np.random.default_rng(0)).targets[2:, 0].tolist() == [0, 1]
    middle = with_objects((40, 20, 60, 60))  # its mirror image lies on itself
    assert with_pasted_objects(middle, 1.0, np.random.default_rng(0)) is middle


def test_the_probability_of_copy_paste_is_that_of_each_object():
    scene = with_objects(*[(2, y, 12, y + 8) for y in range(0, 100, 10)])
    rng = np.random.default_rng(0)
    counts = [len(with_pasted_objects(scene, 0.3, rng).targets) - 10 for _ in range(300)]
    assert abs(np.mean(counts) - 3) < 0.3
    assert with_pasted_objects(scene, 0.0, rng) is scene


TRIANGLE = np.array([[10, 20], [30, 20], [10, 60]], np.float32)


def outlined(scene: Scene, *outlines: np.ndarray | None) -> Scene:
    return Scene(scene.side, scene.tiles, scene.targets, packed(outlines))


def in_triangle(x: int, y: int) -> float:
    """How far a pixel's middle lies inside of TRIANGLE, in its height above the long side."""
    return 40 - (y + 0.5 - 20) - 2 * (x + 0.5 - 10)


def test_of_an_object_with_an_outline_only_the_inside_is_pasted():
    scene = outlined(with_objects((10, 20, 30, 60)), TRIANGLE)
    pasted = with_pasted_objects(scene, 1.0, np.random.default_rng(0))
    before, after = canvas_of(scene), canvas_of(pasted)
    for x in range(100):
        for y in range(100):
            inside = in_triangle(99 - x, y) if 70 <= x < 90 and 20 <= y < 60 else -99
            if abs(inside) > 3:  # a pixel to either side of its edge
                expected = before[y, 99 - x] if inside > 0 else before[y, x]
                np.testing.assert_array_equal(after[y, x], expected, err_msg=f"{x}, {y}")
    np.testing.assert_array_equal(pasted.targets, [[0, 10, 20, 30, 60], [0, 70, 20, 90, 60]])
    own, mirrored = pasted.polygons.each()
    np.testing.assert_array_equal(own, TRIANGLE)
    np.testing.assert_array_equal(mirrored, [[90, 20], [70, 20], [90, 60]])


def test_objects_with_and_without_outlines_are_pasted_together():
    boxes = with_objects((10, 20, 30, 60), (10, 70, 30, 80))
    pasted = with_pasted_objects(outlined(boxes, TRIANGLE, None), 1.0, np.random.default_rng(0))
    assert [None if points is None else len(points) for points in pasted.polygons.each()] == [3, None] * 2
    canvas = canvas_of(pasted)
    assert (canvas[70:80, 70:90] == 51).all()
    assert (canvas[50:60, 70:80] == 0).all()  # what of the rectangle lies outside of the triangle


@pytest.mark.parametrize("with_outline", [False, True])
def test_objects_of_another_scene_are_pasted_where_they_are(with_outline):
    scene, other = with_objects((60, 20, 80, 60)), with_objects((10, 20, 30, 60), (55, 30, 75, 55))
    if with_outline:
        other = outlined(other, TRIANGLE, None)
    pasted = with_objects_of(scene, other, 1.0, np.random.default_rng(0))
    # The second one would cover more than 30% of what is there.
    np.testing.assert_array_equal(pasted.targets, [[0, 60, 20, 80, 60], [0, 10, 20, 30, 60]])
    canvas, expected = canvas_of(pasted), canvas_of(scene)
    inside = np.ones((40, 20), bool)
    if with_outline:
        inside = np.array([[in_triangle(x, y) > 0 for x in range(10, 30)] for y in range(20, 60)])
        none, points = pasted.polygons.each()
        assert none is None
        np.testing.assert_array_equal(points, TRIANGLE)
    expected[20:60, 10:30][inside] = 50
    assert (canvas != expected).any(axis=2).sum() <= 45 * with_outline  # along the edge, which is 45 long


def test_a_scene_without_objects_takes_those_of_another():
    bare = Scene(100, (), np.zeros((0, 5), np.float32))
    assert (
        len(with_objects_of(bare, with_objects((10, 20, 30, 60)), 1.0, np.random.default_rng(0)).targets) == 1
    )
    assert with_pasted_objects(bare, 1.0, np.random.default_rng(0)) is bare


def test_an_outline_that_leaves_the_canvas_is_pasted_as_far_as_it_is_there():
    scene = outlined(with_objects((0, 20, 20, 60)), TRIANGLE - np.float32([10 + 5, 0]))
    pasted = with_pasted_objects(scene, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(pasted.targets[1], [0, 80, 20, 100, 60])
    canvas = canvas_of(pasted)
    assert (canvas[21:25, 86:100] == 50).all()
    assert (canvas[55:60, 80:96] == 0).all()


def test_thousands_of_objects_take_neither_the_memory_nor_the_time_of_all_their_pairs():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1900, (20_000, 2))
    targets = np.column_stack((np.zeros(len(corners)), corners, corners + 8)).astype(np.float32)
    scene = Scene(2000, (), targets)
    begin = time.process_time()
    pasted = with_pasted_objects(scene, 0.5, rng)
    assert time.process_time() - begin < 10  # 0.4 s on a free core
    new = pasted.targets[20_000:]
    assert 100 < len(new) < 10_000
    for _, x1, y1, x2, y2 in new[::50]:
        sides = np.minimum([x2, y2], targets[:, 3:]) - np.maximum([x1, y1], targets[:, 1:3])
        assert (sides.clip(0).prod(axis=1) < 0.3 * 64 + 0.1).all()
