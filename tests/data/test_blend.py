import numpy as np

from tunekit.data.blend import cutmix, mixup
from tunekit.data.scene import covered

NONE = np.zeros((0, 5), np.float32)
SIZE = 100


def plain(value: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


def targets(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32)


def grid() -> np.ndarray:
    """100 objects of 10 x 10 that fill an image; the class is the number of the cell."""
    y, x = (axis.ravel() for axis in np.mgrid[:10, :10] * 10)
    return np.column_stack((np.arange(100), x, y, x + 10, y + 10)).astype(np.float32)


def test_mixup_blends_nearly_half_and_half_and_keeps_the_objects_of_both():
    shares = []
    for seed in range(300):
        image = plain(100)
        rows = mixup(
            image,
            targets((1, 2, 3, 4, 5)),
            lambda: (plain(200), targets((7, 6, 7, 8, 9))),
            np.random.default_rng(seed),
        )
        assert (image == image[0, 0, 0]).all()
        shares.append((int(image[0, 0, 0]) - 100) / 100)
        np.testing.assert_array_equal(rows, [[1, 2, 3, 4, 5], [7, 6, 7, 8, 9]])
        assert rows.dtype == np.float32
    assert abs(np.mean(shares) - 0.5) < 0.01
    assert abs(np.std(shares) - 1 / 260**0.5) < 0.007  # of Beta(32, 32): sqrt(1 / (4 * 65))


def test_cutmix_puts_one_rectangle_of_the_partner_where_no_object_is():
    own = targets((1, 40, 40, 60, 60), (2, 0, 80, 15, 100))
    shares = []
    for seed in range(300):
        image = plain(0)
        rows = cutmix(image, own, lambda: (plain(9), grid()), np.random.default_rng(seed))
        np.testing.assert_array_equal(rows[:2], own)
        mask = image[:, :, 0] == 9
        assert mask.any() == (len(rows) > 2)
        if not mask.any():
            continue
        y, x = np.nonzero(mask)
        box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
        assert mask.sum() == (box[0, 2] - box[0, 0]) * (box[0, 3] - box[0, 1])  # a rectangle, all of it
        assert (covered(own[:, 1:], by=box) == 0).all()
        inside = covered(grid()[:, 1:], by=box)[0]
        np.testing.assert_array_equal(rows[2:, 0], np.flatnonzero(inside >= 0.1))
        assert (rows[2:, 1:3] >= box[0, :2]).all()
        assert (rows[2:, 3:] <= box[0, 2:]).all()
        assert rows.dtype == np.float32
        shares.append(mask.mean())
    assert 100 < len(shares) < 300


def test_cutmix_takes_rectangles_of_every_size():
    shares = []
    for seed in range(400):
        image = plain(0)
        cutmix(image, NONE, lambda: (plain(9), grid()), np.random.default_rng(seed))
        shares.append((image == 9).mean())
    # The share is even over 0..1 before the image's edges cut it off.
    assert min(shares) < 0.01
    assert max(shares) > 0.8
    assert 0.2 < np.mean(shares) < 0.4


def test_cutmix_leaves_an_image_alone_that_has_no_room():
    image = plain(0)

    def never():
        raise AssertionError("the partner was drawn")

    own = targets((0, 0, 0, 100, 100))
    assert cutmix(image, own, never, np.random.default_rng(0)) is own
    assert (image == 0).all()


def test_cutmix_leaves_an_image_alone_when_the_partner_has_no_object_there():
    image = plain(0)
    assert len(cutmix(image, NONE, lambda: (plain(9), NONE), np.random.default_rng(0))) == 0
    assert (image == 0).all()


def test_cover_is_the_share_of_the_box_that_lies_under():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 20]], np.float32)
    by = np.array([[5, 5, 25, 25]], np.float32)
    np.testing.assert_allclose(covered(boxes, by=by), [[0.25, 0.375]], rtol=1e-5)
