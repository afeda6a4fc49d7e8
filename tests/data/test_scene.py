import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.data.pictures import bounds, canvas_of, mask_of, painted
from tunekit.data.scene import FILL, letterboxed, mosaic, paint

SOURCE = painted(36, 64, (16, 12))


@settings(max_examples=40, deadline=None)
@example(seed=0, left=-10, top=-10, size=(150, 150))
@given(
    seed=st.integers(0, 2**32),
    left=st.integers(-80, 150),
    top=st.integers(-80, 150),
    size=st.tuples(st.integers(1, 150), st.integers(1, 150)),
)
def test_a_window_shows_what_the_whole_canvas_has_there_and_grey_beyond(seed, left, top, size):
    scene = mosaic(SOURCE, 5, np.random.default_rng(seed))
    out = np.empty((*size, 3), np.uint8)
    paint(scene, left, top, out)
    around = np.pad(canvas_of(scene), ((200, 200), (200, 200), (0, 0)), constant_values=FILL)
    expected = around[200 + top : 200 + top + size[0], 200 + left : 200 + left + size[1]]
    np.testing.assert_array_equal(out, expected)


def test_the_boxes_of_a_mosaic_lie_on_its_objects():
    for seed in range(30):
        scene = mosaic(SOURCE, seed, np.random.default_rng(seed))
        canvas = canvas_of(scene)
        for cls, *box in scene.targets:
            if (scene.targets[:, 0] == cls).sum() == 1:
                np.testing.assert_allclose(bounds(mask_of(canvas, cls)), box, atol=1e-3)


def test_mosaics_meet_at_every_point_of_the_middle_and_draw_every_partner():
    scenes = [mosaic(SOURCE, 3, np.random.default_rng(seed)) for seed in range(600)]
    assert all(scene.side == 128 and scene.tiles[0].pixels is SOURCE.images[3] for scene in scenes)
    meeting = np.array([(scene.tiles[3].x, scene.tiles[3].y) for scene in scenes])
    assert meeting.min() >= 32
    assert meeting.max() < 96
    np.testing.assert_allclose(meeting.mean(axis=0), 63.5, atol=3)
    np.testing.assert_allclose(meeting.std(axis=0), 64 / 12**0.5, atol=1.5)
    partners = {id(tile.pixels) for scene in scenes for tile in scene.tiles[1:]}
    assert partners == {id(image) for image in SOURCE.images}


def test_the_tiles_of_a_mosaic_touch_its_meeting_point_with_a_corner():
    scene = mosaic(SOURCE, 0, np.random.default_rng(0))
    x, y = scene.tiles[3].x, scene.tiles[3].y
    corners = [(t.x + t.pixels.shape[1], t.y + t.pixels.shape[0]) for t in scene.tiles]
    assert corners[0] == (x, y)
    assert (scene.tiles[1].x, corners[1][1]) == (x, y)
    assert (corners[2][0], scene.tiles[2].y) == (x, y)


def test_objects_outside_the_canvas_are_dropped_and_cut_ones_end_at_its_edge():
    scenes = [mosaic(SOURCE, 0, np.random.default_rng(seed)) for seed in range(200)]
    counts = {len(scene.targets) for scene in scenes}
    assert min(counts) < 4 == max(counts)
    boxes = np.concatenate([scene.targets for scene in scenes])[:, 1:]
    assert boxes.min() == 0
    assert boxes.max() == 128
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_an_odd_rest_of_the_letterbox_goes_behind():
    source = painted(1, 64, (16, 12))
    source.images = [source.images[0][:61, :47]]
    tile = letterboxed(source, 0).tiles[0]
    assert (tile.x, tile.y) == (8, 1)
