"""COCO JSON: boxes are where they are in the file, and COCO's own program comes to our figures."""

import contextlib
import io
import json
import struct

import cv2
import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.decode import read_image
from tunekit.data.loader import ValLoader
from tunekit.errors import DataError
from tunekit.evaluation.coco import CocoWriter, category_ids, image_ids, in_file_pixels
from tunekit.evaluation.imagesize import image_size
from tunekit.evaluation.metrics import Matcher
from tunekit.evaluation.validator import Detections

SIZES = ((48, 64), (333, 101), (97, 640), (120, 121), (200, 200), (31, 45))  # height, width
IMGSZ = 96


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Six images of different sizes and kinds with three boxes of three classes each; the last has none."""
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(3)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for number, size in enumerate(SIZES):
        suffix = "png" if number % 2 else "jpg"
        cv2.imwrite(
            str(tmp_path / f"images/{number:03d}.{suffix}"), rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        )
        wh = rng.uniform(0.2, 0.5, (3, 2))
        xy = rng.uniform(wh / 2, 1 - wh / 2)
        rows = np.column_stack((rng.permutation(3), xy, wh))
        lines = [f"{int(row[0])} " + " ".join(f"{value:.6f}" for value in row[1:]) for row in rows]
        if number < len(SIZES) - 1:
            (tmp_path / f"labels/{number:03d}.txt").write_text("\n".join(lines))
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: images\nval: images\nnames: [cat, dog, 猫]\n")
    return open_split(load_data_config(str(yaml)), "val", IMGSZ, False)


def _truth(batch, image):
    mine = (batch.image_index == image).numpy()
    return batch.boxes.numpy()[mine], batch.classes.numpy()[mine]


def _detections(batch, rng):
    """Jittered truth, doubled, some of it of another class; all inside the pictures."""
    found = []
    for image in range(len(batch.images)):
        boxes, classes = _truth(batch, image)
        boxes, classes = np.repeat(boxes, 3, 0), np.repeat(classes, 3)
        if len(boxes):
            inside = boxes[:, :2].min(0), boxes[:, 2:].max(0)
            boxes = (boxes + rng.normal(0, 2, boxes.shape)).clip(np.tile(inside[0], 2), np.tile(inside[1], 2))
        classes = np.where(rng.random(len(classes)) < 0.2, (classes + 1) % 3, classes)
        scores = rng.random(len(boxes)).astype(np.float32)
        found.append(Detections(boxes.astype(np.float32), scores, classes))
    return found


def _judged(folder):
    """(mAP50, mAP50-95) by faster-coco-eval, from the two files alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "ground_truth.json"))
        judge = COCOeval_faster(truth, truth.loadRes(str(folder / "predictions.json")), "bbox")
        judge.run()
    return judge.stats_as_dict["AP_50"], judge.stats_as_dict["AP_all"]


def test_faster_coco_eval_finds_our_map_in_the_two_files(source, tmp_path):
    # The overlap of two boxes does not change when both are stretched, so only rounding remains.
    rng = np.random.default_rng(0)
    writer, matcher = CocoWriter(source), Matcher()
    for batch in ValLoader(source, batch=4, workers=0):
        found = _detections(batch, rng)
        writer.add(batch, found)
        for image, one in enumerate(found):
            matcher.update(one.boxes, one.scores, one.classes, *_truth(batch, image))
    writer.write(tmp_path)
    ours = matcher.compute(source.names)
    assert 0.1 < ours.map < 0.9
    assert _judged(tmp_path) == pytest.approx((ours.map50, ours.map), abs=1e-6)


def test_boxes_come_back_to_where_the_label_files_say(source, tmp_path):
    writer = CocoWriter(source)
    for batch in ValLoader(source, batch=4, workers=0):
        truth = [_truth(batch, image) for image in range(len(batch.images))]
        writer.add(batch, [Detections(b, np.ones(len(b), np.float32), c) for b, c in truth])
    writer.write(tmp_path)
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert len(found) == 3 * (len(SIZES) - 1)
    for entry in found:
        height, width = SIZES[entry["image_id"]]
        lines = [
            line.split()
            for line in (tmp_path / f"labels/{entry['image_id']:03d}.txt").read_text().splitlines()
        ]
        (row,) = [line for line in lines if int(line[0]) == entry["category_id"] - 1]
        x, y, w, h = (float(value) for value in row[1:])
        expected = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        assert entry["bbox"] == pytest.approx(expected, abs=2e-3)
        assert entry["score"] == 1
        assert entry["file_name"].startswith(f"{entry['image_id']:03d}.")


def test_the_truth_lists_all_images_with_their_sizes_and_the_classes_by_name(source, tmp_path):
    writer = CocoWriter(source)
    for batch in ValLoader(source, batch=4, workers=0):
        writer.add(
            batch,
            [Detections(np.zeros((0, 4)), np.zeros(0, np.float32), np.zeros(0, int))] * len(batch.images),
        )
    writer.write(tmp_path)
    truth = json.loads((tmp_path / "ground_truth.json").read_text())
    assert [(image["id"], image["height"], image["width"]) for image in truth["images"]] == [
        (number, *size) for number, size in enumerate(SIZES)
    ]
    assert truth["categories"][2] == {"id": 3, "name": "猫"}
    assert len(truth["annotations"]) == 3 * (len(SIZES) - 1)
    assert json.loads((tmp_path / "predictions.json").read_text()) == []


def test_close_scores_stay_apart(source, tmp_path):
    scores = np.array([0.0012341, 0.0012342], np.float32)
    writer = CocoWriter(source)
    batch = next(iter(ValLoader(source, batch=1, workers=0)))
    writer.add(batch, [Detections(np.zeros((2, 4)), scores, np.zeros(2, int))])
    writer.write(tmp_path)
    written = [entry["score"] for entry in json.loads((tmp_path / "predictions.json").read_text())]
    assert np.array_equal(np.array(written, np.float32), scores)


def test_what_lies_outside_the_image_is_cut_off():
    boxes = np.array([[-5, -5, 200, 200]], np.float32)
    assert in_file_pixels(boxes, (96, 96), (64, 96), (640, 960)).tolist() == [[0, 0, 960, 640]]


def test_images_are_numbered_only_where_all_files_are():
    assert image_ids(["a/000000000139.jpg", "a/285.png"]) == [139, 285]
    assert image_ids(["a/1.jpg", "a/dog.jpg"]) == ["1", "dog"]
    assert image_ids(["a/7.jpg", "a/007.jpg"]) == ["7", "007"]
    assert image_ids(["r/a/1.jpg", "r/b/1.jpg"]) == ["a/1.jpg", "b/1.jpg"]
    assert image_ids(["a/²٣.jpg"]) == ["²٣"]


def test_coco_s_classes_have_coco_s_numbers():
    names = ["person", *(f"thing {index}" for index in range(1, 79)), "toothbrush"]
    assert category_ids(names) == list(range(1, 81))
    names[11] = "stop sign"
    assert category_ids(names)[10:13] == [11, 13, 14]
    assert category_ids(names)[-1] == 90
    assert len(category_ids(names)) == 80


def _jpeg(path, height, width, orientation=None):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    if orientation:
        tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        exif = b"Exif\0\0" + tiff
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    path.write_bytes(data)


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
@pytest.mark.parametrize("size", [(30, 50), (50, 30), (640, 641), (64, 64)])
def test_the_size_is_that_of_the_decoded_image_also_where_a_camera_turned_it(tmp_path, orientation, size):
    path = tmp_path / "a.jpg"
    _jpeg(path, *size, orientation)
    shape = read_image(str(path), 64).shape[:2]
    full = cv2.imread(str(path)).shape[:2]
    assert full == (size[::-1] if orientation in (6, 8) else size)
    assert image_size(path, shape) == full


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "jpg"])
def test_the_size_of_any_kind_of_image(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), np.zeros((33, 77, 3), np.uint8))
    assert image_size(path, (28, 64)) == (33, 77)


def test_an_image_that_is_gone_is_told(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg: image cannot be read"):
        image_size(tmp_path / "gone.jpg", (3, 4))
    (tmp_path / "bad.bmp").write_bytes(b"BMno")
    with pytest.raises(DataError, match=r"bad\.bmp"):
        image_size(tmp_path / "bad.bmp", (3, 4))
