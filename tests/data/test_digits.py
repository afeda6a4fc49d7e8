"""The embedded digits: the same every time, real boxes, handwriting of its own in each split."""

from __future__ import annotations

import hashlib
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from tunekit.data.cache import open_split
from tunekit.data.dataset import image_paths, load_data_config
from tunekit.data.digits import DIGIT_SIZE, DIGITS_A_SCENE, SCENES, SIDE, ensure_digits, handwriting
from tunekit.data.scenes import OVERLAP, compose
from tunekit.errors import DataError


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        started = time.process_time()
        source = ensure_digits()
        assert time.process_time() - started < 10, "it takes 2 s on one quiet core"
        return source


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def test_two_builds_are_the_same_to_the_bit_and_the_second_call_builds_nothing(digits: Path) -> None:
    again = ensure_digits()  # each test has a cache folder of its own
    assert again.parent != digits.parent
    assert fingerprint(again.parent) == fingerprint(digits.parent)
    written = again.stat().st_mtime_ns
    assert ensure_digits() == again
    assert again.stat().st_mtime_ns == written
    assert [path.name for path in again.parent.parent.iterdir() if path.is_dir()] == [again.parent.name]


def test_data_digits_is_a_data_set_without_a_problem(monkeypatch: pytest.MonkeyPatch, digits: Path) -> None:
    monkeypatch.setenv("TUNEKIT_CACHE", str(digits.parents[2]))
    config = load_data_config("digits")
    assert config.source == digits
    assert config.names == tuple("0123456789")
    for split, scenes in SCENES.items():
        source = open_split(config, split, SIDE, "disk")
        assert len(source) == scenes
        assert source.problems == ()
        assert source.shapes.tolist() == [[SIDE, SIDE]] * scenes
        counts = [len(source.labels(index)) for index in range(len(source))]
        assert max(counts) == DIGITS_A_SCENE[1]
        assert min(counts) >= 1
        assert source.class_counts.min() > source.class_counts.mean() * 0.7
        long_sides = np.concatenate([source.labels(i)[:, 3:].max(axis=1) for i in range(scenes)]) * SIDE
        assert long_sides.min() >= DIGIT_SIZE[0] * 0.75
        assert long_sides.max() <= DIGIT_SIZE[1] + 4


def test_no_handwriting_is_in_two_splits() -> None:
    inks = {split: {ink.tobytes() for ink in handwriting(split)[0]} for split in SCENES}
    for one, other in itertools.combinations(SCENES, 2):
        assert not inks[one] & inks[other]
    assert sum(map(len, inks.values())) == 1797


def test_no_scene_is_in_two_splits(digits: Path) -> None:
    config = load_data_config(str(digits))
    scenes = [path.read_bytes() for split in SCENES for path in image_paths(config, split)]
    assert len(set(scenes)) == len(scenes)


def test_boxes_are_tight_around_ink_that_stands_out() -> None:
    """Found again without knowing the box: a scene with its digit against the scene without it."""
    inks, _ = handwriting("val")
    for seed in range(25):
        size = 24 + seed
        with_digit = compose([inks[seed]], [size], 96, np.random.default_rng(seed))
        without = compose([], [], 96, np.random.default_rng(seed))
        smooth = np.abs(with_digit.image.astype(float) - without.image).mean(axis=2)
        kernel = np.ones((3, 3)) / 9
        change = sum(
            kernel[y, x] * np.roll(smooth, (y - 1, x - 1), (0, 1)) for y in range(3) for x in range(3)
        )
        rows, columns = np.nonzero(change > 0.5 * np.quantile(change, 0.99))
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(with_digit.boxes[0] - seen).max() <= 4, seed
        assert max(with_digit.boxes[0][2:] - with_digit.boxes[0][:2]) == pytest.approx(size, abs=4)


def test_digits_do_not_hide_each_other_and_lie_inside() -> None:
    inks, _ = handwriting("train")
    for seed in range(20):
        scene = compose(inks[:6], [40] * 6, 120, np.random.default_rng(seed))
        assert len(scene.boxes) == len(scene.drawn)
        assert scene.boxes.min() >= 0
        assert scene.boxes.max() <= 120
        for one, other in itertools.combinations(scene.boxes, 2):
            sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            smaller = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
            assert np.prod(np.clip(sides, 0, None)) <= OVERLAP * smaller


def test_what_a_killed_builder_left_is_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.data.digits.SCENES", {"train": 3, "val": 2, "test": 2})
    folder = ensure_digits().parent
    whole = fingerprint(folder)
    left = folder.parent / f".{folder.name}-abc" / "images"
    left.mkdir(parents=True)
    (folder / "digits.yaml").unlink()  # somebody removed a part of it
    (folder / "images" / "train" / "9999.jpg").write_text("not ours")
    ensure_digits()
    assert fingerprint(folder) == whole
    assert not left.exists()


def test_a_cache_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="set TUNEKIT_CACHE"):
        ensure_digits()
