"""Pictures of batches: every box in its class's colour at its place, names legible, sizes bounded."""

import cv2
import numpy as np
import pytest
import torch

from tunekit.data.loader import Batch
from tunekit.evaluation.validator import Detections
from tunekit.results.pictures import (
    GAP,
    Marks,
    detection_marks,
    grid,
    truth_marks,
    write_detections,
    write_truth,
)
from tunekit.results.style import class_colour

NAMES = tuple(f"thing {k}" for k in range(80))


def _rgb(index):
    return tuple(int(class_colour(index)[at : at + 2], 16) for at in (1, 3, 5))


def _batch(count, size, boxes=(), classes=(), rows=()):
    """Grey images; loaders give views of memory laid out channels_last."""
    images = torch.full((count, *size, 3), 128, dtype=torch.uint8).permute(0, 3, 1, 2)
    return Batch(
        images=images,
        image_index=torch.tensor(rows, dtype=torch.int64),
        classes=torch.tensor(classes, dtype=torch.int64),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        records=torch.arange(count),
    )


def _bounds(picture, colour):
    """x1, y1, x2, y2 of the pixels of exactly that colour."""
    y, x = np.nonzero((picture == colour).all(-1))
    return x.min(), y.min(), x.max(), y.max()


def test_a_box_is_drawn_around_its_object_in_the_colour_of_its_class():
    marks = Marks(np.array([[100.0, 200, 300, 400]]), np.array([7]), [""])
    picture = grid(np.full((1, 640, 640, 3), 128, np.uint8), [marks])
    assert picture.shape == (640, 640, 3)
    colour = _rgb(7)
    for x, y in ((100, 300), (300, 300), (200, 200), (200, 400)):
        assert tuple(picture[y, x]) == colour
    assert tuple(picture[300, 200]) == (128, 128, 128), "it is not filled"
    x1, _, x2, y2 = _bounds(picture, colour)
    assert (x1, x2, y2) == pytest.approx((100, 300, 400), abs=2)


def test_small_images_are_enlarged_and_their_boxes_with_them():
    marks = [Marks(np.array([[16.0, 16, 48, 32]]), np.array([k]), [""]) for k in range(4)]
    picture = grid(np.full((4, 64, 64, 3), 128, np.uint8), marks)
    assert picture.shape == (2 * 480 + GAP, 2 * 480 + GAP, 3)
    x1, _, x2, y2 = _bounds(picture, _rgb(3))  # the tile below on the right
    assert (x1, x2, y2) == pytest.approx((484 + 120, 484 + 360, 484 + 240), abs=2)


@pytest.mark.parametrize("size", [(32, 32), (640, 640), (1280, 1280), (96, 640), (2000, 320)])
@pytest.mark.parametrize("count", [1, 3, 16, 40])
def test_pictures_are_bounded_and_show_at_most_sixteen_images(tmp_path, count, size):
    path = tmp_path / "train_batch0.jpg"
    write_truth(path, _batch(count, size, [[2, 3, 20, 25]] * count, [1] * count, range(count)), NAMES)
    height, width = cv2.imread(str(path)).shape[:2]
    assert max(height, width) <= 1921
    shown = min(count, 16)
    columns = int(np.ceil(np.sqrt(shown)))
    rows = int(np.ceil(shown / columns))
    tile = (height - (rows - 1) * GAP) / rows, (width - (columns - 1) * GAP) / columns
    assert tile[0] / tile[1] == pytest.approx(size[0] / size[1], rel=0.05)
    assert max(tile) >= min(480, 1920 / max(rows, columns)) * 0.9, "large enough to read names"


def test_each_image_gets_its_own_boxes():
    batch = _batch(3, (64, 64), [[1, 1, 9, 9], [2, 2, 8, 8], [30, 30, 60, 60]], [0, 1, 2], [0, 2, 2])
    marks = truth_marks(batch, NAMES)
    assert [one.classes.tolist() for one in marks] == [[0], [], [2, 1]], "the large one first"
    assert marks[2].labels == ["thing 2", "thing 1"]


def test_detections_are_shown_from_a_quarter_of_confidence_on_with_it_the_surest_on_top():
    found = Detections(
        np.array([[0, 0, 9, 9]] * 3, np.float32), np.array([0.9, 0.26, 0.25], np.float32), np.array([5, 6, 7])
    )
    marks = detection_marks(found, NAMES)
    assert marks.labels == ["thing 6 0.26", "thing 5 0.90"]


def test_of_two_boxes_at_one_place_the_surer_one_is_seen_and_both_are_named(tmp_path):
    box = [100.0, 100, 400, 400]
    found = Detections(np.array([box, box], np.float32), np.array([0.9, 0.5], np.float32), np.array([0, 2]))
    picture = grid(np.full((1, 480, 480, 3), 128, np.uint8), [detection_marks(found, NAMES)])
    assert tuple(picture[250, 100]) == _rgb(0)
    assert (picture == _rgb(2)).all(-1).sum() > 200, "the plate of the other's name"


def test_names_stay_inside_their_image_and_boxes_beyond_it_are_drawn_on_its_edge():
    marks = [
        Marks(
            np.array([[-50.0, -50, 30, 30], [470, 470, 900, 900]]),
            np.array([0, 1]),
            ["name " * 30, "a name as long"],
        ),
        Marks(np.zeros((0, 4)), np.zeros(0, int), []),
    ]
    picture = grid(np.full((2, 480, 480, 3), 128, np.uint8), marks)
    assert (picture[:, 480 : 480 + GAP] == 255).all(), "nothing is drawn between the images"
    assert (picture[:, 480 + GAP :] == 128).all()
    assert tuple(picture[0, 10]) == _rgb(0)
    assert tuple(picture[479, 475]) == _rgb(1)
    assert _bounds(picture, _rgb(1))[0] < 420, "the name begins so far left that all of it is seen"


def test_nothing_found_unicode_and_captions_are_drawn(tmp_path):
    batch = _batch(2, (64, 96), [[5, 20, 60, 60]], [0], [1])
    names = ("猫 кошка الله 🐱" * 4,)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    write_truth(tmp_path / "labels.jpg", batch, names, ["a.jpg", "写真.jpg"])
    write_detections(tmp_path / "pred.jpg", batch, [nothing, nothing], names, ["a.jpg", "b.jpg"])
    labels, pred = (cv2.imread(str(tmp_path / f"{name}.jpg")).astype(int) for name in ("labels", "pred"))
    assert labels.shape == pred.shape == (320, 2 * 480 + GAP, 3)
    assert np.ptp(pred[:200], axis=(0, 1)).max() > 100, "the gap is white"
    assert np.ptp(pred[:250, :480]) < 30, "no box"
    assert np.ptp(labels[:250, 500:]) > 100
    assert np.ptp(labels[290:, :100]) > 100, "the caption"
