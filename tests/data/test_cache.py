"""One decoded copy of a split for all processes: built once, whole or not at all, current or not used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import filelock
import numpy as np
import pytest

from tunekit.data import memory
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.errors import DataError

from .conftest import DataSet

KINDS = ["disk", "ram", False]


@pytest.fixture(autouse=True)
def _own_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of the test's own in the real /dev/shm, so that tests of other processes stay apart."""
    if not memory.SHARED_MEMORY.is_dir():
        pytest.skip("no /dev/shm")
    folder = memory.SHARED_MEMORY / f"tunekit-test-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    monkeypatch.setattr(memory, "SHARED_MEMORY", folder)
    yield
    memory._release_all()
    shutil.rmtree(folder)


def cache_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "images").glob("*.arrow"))


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Reads the process's lines up to the one that has `word`."""
    assert process.stdout is not None
    while word not in (line := process.stdout.readline()):
        assert line, process.communicate()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.mark.parametrize("cache", KINDS)
def test_images_and_labels_are_those_of_the_files(data_set: DataSet, cache: str | bool) -> None:
    source = data_set()
    split = open_split(load_data_config(str(source)), "train", 64, cache)
    assert len(split) == 4
    assert split.names == ("cat", "dog")
    assert split.problems == ()
    assert [Path(path).name for path in split.paths] == ["000.png", "001.png", "002.png", "003.png"]
    for index, path in enumerate(split.paths):
        expected = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(split.image(index), expected)
        expected_boxes = [[0, 0.5, 0.5, 0.2, (index + 1) / 10], [1, 0.25, 0.75, 0.5, 0.5]]
        np.testing.assert_allclose(split.labels(index), expected_boxes, rtol=1e-6)
    assert split.shapes.tolist() == [[48, 64]] * 4
    assert split.class_counts.tolist() == [4, 4]


@pytest.mark.parametrize("cache", KINDS)
def test_images_are_resized_and_nobody_can_write_on_them(data_set: DataSet, cache: str | bool) -> None:
    split = open_split(load_data_config(str(data_set())), "train", 96, cache)
    image = split.image(3)
    assert image.shape == (72, 96, 3)
    assert image.flags.c_contiguous
    with pytest.raises(ValueError):
        image[0, 0, 0] = 1
    with pytest.raises(ValueError):
        split.labels(0)[0, 0] = 1


@pytest.mark.parametrize("cache", ["disk", "ram"])
def test_pixels_are_the_map_itself(data_set: DataSet, tmp_path: Path, cache: str) -> None:
    split = open_split(load_data_config(str(data_set())), "train", 64, cache)
    image = split.image(0)
    assert not image.flags.owndata
    folder = memory.folder() if cache == "ram" else tmp_path / "cache" / "images"
    (path,) = folder.glob("*.arrow")
    first, last = address_range(path)
    assert first <= image.ctypes.data < last
    again = open_split(load_data_config(str(tmp_path / "set" / "data.yaml")), "train", 64, cache)
    np.testing.assert_array_equal(again.image(0), image)


def address_range(path: Path) -> tuple[int, int]:
    """Where this process has the file mapped."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(str(path)):
            first, last = line.split()[0].split("-")
            return int(first, 16), int(last, 16)
    raise AssertionError(f"{path} is not mapped")


def test_every_bad_image_and_line_is_told_and_the_rest_is_used(data_set: DataSet) -> None:
    source = data_set(count=6)
    images, labels = source.parent / "images/train", source.parent / "labels/train"
    (images / "000.png").write_bytes((images / "000.png").read_bytes()[:500])
    (labels / "001.txt").write_text("0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n")
    (labels / "002.txt").write_text("nonsense\n")
    (labels / "003.txt").unlink()
    listing = "\n".join(f"./images/train/{number:03d}.png" for number in range(7))
    (source.parent / "train.txt").write_text(listing)
    source.write_text("train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    split = open_split(load_data_config(str(source)), "train", 64, "disk")
    assert [Path(path).stem for path in split.paths] == ["001", "003", "004", "005"]
    assert [len(split.labels(index)) for index in range(4)] == [1, 0, 2, 2]
    told = [(Path(problem.where).name, problem.kind) for problem in split.problems]
    assert told == [
        ("000.png", "image is cut off"),
        ("001.txt:2", "class id out of range"),
        ("002.txt:1", "not five columns"),
        ("002.png", "image left out"),
        ("006.png", "image not there"),
    ]
    assert split.image(1).shape == (48, 64, 3)
    assert split.class_counts.tolist() == [3, 2]


def with_polygons(source: Path) -> Path:
    """The data set with outlines in the labels of its images 0 and 2; image 1 has boxes, image 3 nothing."""
    labels = source.parent / "labels/train"
    (labels / "000.txt").write_text("0 0.5 0.5 0.2 0.1\n1 0.1 0.2 0.5 0.2 0.3 0.8\n")
    (labels / "002.txt").write_text("0 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.5 0.2 0.3 0.75\n")
    (labels / "003.txt").unlink()
    return source


@pytest.mark.parametrize("cache", KINDS)
def test_polygons_come_with_their_boxes(data_set: DataSet, cache: str | bool) -> None:
    source = with_polygons(data_set())
    for _ in range(2):  # made, and found
        split = open_split(load_data_config(str(source)), "train", 64, cache)
        assert split.has_polygons
        assert split.problems == ()
        outlines = [split.polygons(index) for index in range(4)]
        assert [[p is None for p in each] for each in outlines] == [
            [True, False],
            [True] * 2,
            [False] * 2,
            [],
        ]
        np.testing.assert_allclose(split.labels(0)[1], [1, 0.3, 0.5, 0.4, 0.6], rtol=1e-6)
        triangle = outlines[0][1]
        assert triangle is not None
        assert triangle.dtype == np.float32
        np.testing.assert_allclose(triangle, [[0.1, 0.2], [0.5, 0.2], [0.3, 0.8]], rtol=1e-6)
        np.testing.assert_allclose(outlines[2][0], [[0.25, 0.25], [0.5, 0.25], [0.5, 0.5], [0.25, 0.5]])
        np.testing.assert_allclose(outlines[2][1], [[0.1, 0.2], [0.5, 0.2], [0.3, 0.75]], rtol=1e-6)
        with pytest.raises(ValueError):
            triangle[0, 0] = 1
    some = open_split(load_data_config(str(source)), "train", 64, cache, fraction=0.5)
    assert [len(some.polygons(index)) for index in range(2)] == [2, 2]
    np.testing.assert_array_equal(some.polygons(1)[1], outlines[2][1])


def test_polygons_are_the_map_itself(data_set: DataSet, tmp_path: Path) -> None:
    split = open_split(load_data_config(str(with_polygons(data_set()))), "train", 64, "disk")
    (path,) = (tmp_path / "cache" / "images").glob("*.arrow")
    first, last = address_range(path)
    outline = split.polygons(2)[1]
    assert outline is not None
    assert first <= outline.ctypes.data < last


@pytest.mark.parametrize("cache", KINDS)
def test_a_data_set_without_polygons_has_none(data_set: DataSet, cache: str | bool) -> None:
    split = open_split(load_data_config(str(data_set())), "train", 64, cache)
    assert not split.has_polygons
    assert split.polygons(0) == (None, None)


def test_polygons_of_an_image_that_is_left_out_are_left_out(data_set: DataSet) -> None:
    source = with_polygons(data_set())
    image = source.parent / "images/train/000.png"
    image.write_bytes(image.read_bytes()[:200])
    split = open_split(load_data_config(str(source)), "train", 64, "disk")
    assert [len(split.polygons(index)) for index in range(3)] == [2, 2, 0]
    np.testing.assert_allclose(split.polygons(1)[1], [[0.1, 0.2], [0.5, 0.2], [0.3, 0.75]], rtol=1e-6)


def test_many_images_in_many_chunks_keep_their_polygons(
    data_set: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunekit.data.records.CHUNK_BYTES", 3 * 64 * 64 * 3)
    source = data_set(count=20)
    labels = source.parent / "labels/train"
    for index in range(0, 20, 3):
        (labels / f"{index:03d}.txt").write_text(f"0 0.5 0.5 0.1 0.1\n1 0 0 1 0 0.5 0.{index + 10}\n")
    split = open_split(load_data_config(str(source)), "train", 64, "disk")
    for index in range(20):
        box, outline = split.polygons(index)
        assert box is None
        if index % 3:
            assert outline is None
        else:
            np.testing.assert_allclose(outline, [[0, 0], [1, 0], [0.5, (index + 10) / 100]], rtol=1e-6)


def test_single_cls_takes_all_classes_for_one_called_item(data_set: DataSet) -> None:
    config = load_data_config(str(data_set()))
    split = open_split(config, "train", 64, "disk", single_cls=True)
    assert split.names == ("item",)
    np.testing.assert_allclose(split.labels(1), [[0, 0.5, 0.5, 0.2, 0.2], [0, 0.25, 0.75, 0.5, 0.5]])
    assert split.class_counts.tolist() == [8]
    with pytest.raises(ValueError):
        split.labels(0)[0, 0] = 1
    several = open_split(config, "train", 64, "disk")
    assert several.names == ("cat", "dog")
    assert several.labels(1)[:, 0].tolist() == [0, 1]


def test_names_that_are_not_utf8_are_used_and_told(data_set: DataSet) -> None:
    source = data_set()
    images, labels = source.parent / "images/train", source.parent / "labels/train"
    try:
        (images / "000.png").rename(os.fsdecode(os.fsencode(images) + b"/\xff.png"))
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    Path(os.fsdecode(os.fsencode(labels) + b"/\xff.txt")).write_text("0 0.5 0.5 0.1 0.1\n0 0 0 0 0\n")
    split = open_split(load_data_config(str(source)), "train", 64, False)
    assert os.fsencode(split.paths[3]).endswith(b"/\xff.png")
    assert split.image(3).shape == (48, 64, 3)
    assert [Path(problem.where).name for problem in split.problems] == ["?.txt:2"]


@pytest.mark.parametrize("cache", KINDS)
def test_a_split_without_a_usable_label_is_an_error_with_the_commonest_problems(
    data_set: DataSet, cache: str | bool
) -> None:
    source = data_set()
    for path in (source.parent / "labels/train").iterdir():
        path.write_text("5 0.5 0.5 0.1 0.1\n")
    config = load_data_config(str(source))
    for _ in range(2):  # also when it is already known
        with pytest.raises(
            DataError, match=r"train: none of its 4 images(.|\n)*4 x class id out of range"
        ) as caught:
            open_split(config, "train", 64, cache)
    assert "000.txt:1" in str(caught.value)


def test_a_split_without_labels_says_where_they_are_looked_for(data_set: DataSet) -> None:
    source = data_set()
    shutil.rmtree(source.parent / "labels" / "val")
    with pytest.raises(DataError, match=r"labels/val/000\.txt"):
        open_split(load_data_config(str(source)), "val", 64, "disk")


def test_fraction_takes_the_same_evenly_spaced_images_each_time(data_set: DataSet) -> None:
    config = load_data_config(str(data_set(count=10)))
    whole = open_split(config, "train", 32, "disk")
    some = open_split(config, "train", 32, "disk", fraction=0.5)
    assert some.paths == whole.paths[::2]
    assert some.shapes.shape == (5, 2)
    np.testing.assert_array_equal(some.image(2), whole.image(4))
    np.testing.assert_array_equal(some.labels(2), whole.labels(4))
    assert some.class_counts.tolist() == [5, 5]
    assert len(open_split(config, "train", 32, "disk", fraction=0.001)) == 1


def change_a_label(source: Path) -> None:
    (source.parent / "labels/train/000.txt").write_text("1 0.5 0.5 0.1 0.125\n")


def change_the_time(source: Path) -> None:
    os.utime(source.parent / "images/train/000.png", (1, 1))


def remove_a_label(source: Path) -> None:
    (source.parent / "labels/train/001.txt").unlink()


def remove_an_image(source: Path) -> None:
    (source.parent / "images/train/001.png").unlink()


def add_a_class(source: Path) -> None:
    source.write_text(source.read_text().replace("dog", "dog, cow"))


@pytest.mark.parametrize(
    "change", [change_a_label, change_the_time, remove_a_label, remove_an_image, add_a_class]
)
def test_a_change_of_the_data_makes_a_new_file_and_removes_the_old(
    data_set: DataSet, tmp_path: Path, change: object
) -> None:
    source = data_set()
    old = open_split(load_data_config(str(source)), "train", 64, "disk")
    pixels = old.image(0).copy()
    before = cache_files(tmp_path)
    change(source)  # type: ignore[operator]
    open_split(load_data_config(str(source)), "train", 64, "disk")
    after = cache_files(tmp_path)
    assert len(before) == len(after) == 1
    assert before != after
    np.testing.assert_array_equal(old.image(0), pixels)  # who had it open goes on


def test_splits_and_sizes_have_files_of_their_own(data_set: DataSet, tmp_path: Path) -> None:
    config = load_data_config(str(data_set()))
    for split, imgsz in (("train", 64), ("val", 64), ("train", 32), ("train", 64)):
        open_split(config, split, imgsz, "disk")
    assert len(cache_files(tmp_path)) == 3


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "other"])
def test_a_damaged_cache_file_is_made_again_and_said(
    data_set: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    config = load_data_config(str(data_set()))
    pixels = open_split(config, "train", 64, "disk").image(0).copy()
    (path,) = cache_files(tmp_path)
    size = path.stat().st_size
    contents = {
        "cut": path.read_bytes()[: size // 2],
        "zeros": bytes(size),
        "empty": b"",
        "other": b"hello" * 99,
    }
    path.unlink()  # the map above keeps the old one
    path.write_bytes(contents[damage])
    np.testing.assert_array_equal(open_split(config, "train", 64, "disk").image(0), pixels)
    assert "is damaged" in caplog.text
    caplog.clear()
    open_split(config, "train", 64, "disk")
    assert caplog.text == ""


OPEN = """
import logging, sys
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.errors import DataError
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
print("up", flush=True)
sys.stdin.readline()
try:
    split = open_split(load_data_config(sys.argv[1]), "train", 320, sys.argv[2])
    print("sum", sum(int(split.image(i).sum()) for i in range(len(split))), flush=True)
except DataError as error:
    print("DataError:", error)
"""


def test_processes_that_open_at_once_build_once(data_set: DataSet, tmp_path: Path) -> None:
    source = data_set(count=24)
    processes = [python(OPEN, source, "disk") for _ in range(2)]
    for process in processes:
        wait_for(process, "up")
    for process in processes:
        go(process)
    text = "".join(process.communicate()[0] for process in processes)
    assert text.count("decoding") == 1, text
    sums = [line for line in text.splitlines() if line.startswith("sum")]
    assert len(sums) == 2
    assert len(set(sums)) == 1
    assert len(cache_files(tmp_path)) == 1


def test_a_killed_builder_leaves_nothing_that_matters(data_set: DataSet, tmp_path: Path) -> None:
    source = data_set(count=24)
    folder = tmp_path / "cache" / "images"
    blocker = source.parent / "images" / "train" / "zzz.png"
    os.mkfifo(blocker)  # reading it never ends, so that the kill comes in the middle of the build
    process = python("from tunekit.data import records\nrecords.CHUNK_BYTES = 1\n" + OPEN, source, "disk")
    go(process)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 23 * 240 * 320 * 3 for path in folder.glob(".*-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list(folder.glob(".*-*"))) == 1
    blocker.unlink()
    split = open_split(load_data_config(str(source)), "train", 320, "disk")
    assert len(split) == 24
    assert len(cache_files(tmp_path)) == 1
    assert list(folder.glob(".*-*")) == []


LIMITED = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
{OPEN}
"""


def test_a_disk_that_fills_up_is_told_with_numbers_and_leaves_no_half_file(
    data_set: DataSet, tmp_path: Path
) -> None:
    """The limit on a file's size fails a write as a full disk does."""
    source = data_set(count=6, size=(240, 320))
    out, err = python(LIMITED, source, "disk").communicate("go\n")
    assert "DataError: no room for the decoded images in " in out, err
    assert str(tmp_path / "cache" / "images") in out
    assert "about 1 MB needed" in out
    assert " MB free; free some, set TUNEKIT_CACHE" in out
    assert cache_files(tmp_path) == []
    assert list((tmp_path / "cache" / "images").glob(".*-*")) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_told_before_anything_is_decoded(
    data_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = data_set(count=6, size=(240, 320))
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", small], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        monkeypatch.setenv("TUNEKIT_CACHE", str(small))
        with pytest.raises(DataError, match=r"no room .* about 1 MB needed, 0 MB free; free some"):
            open_split(load_data_config(str(source)), "train", 320, "disk")
    finally:
        subprocess.run(["umount", small], check=True)


def test_ram_without_room_says_how_much_is_missing_and_to_use_the_disk(
    data_set: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(memory.SHARED_MEMORY)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"no room .*1 MB needed, 0 MB free; use cache=disk"):
        open_split(load_data_config(str(data_set())), "train", 64, "ram")


def test_a_cache_folder_that_cannot_be_made_is_told(
    data_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set TUNEKIT_CACHE"):
        open_split(load_data_config(str(data_set())), "train", 64, "disk")


def test_without_a_cache_a_change_during_training_is_an_error_not_a_wrong_picture(data_set: DataSet) -> None:
    source = data_set()
    split = open_split(load_data_config(str(source)), "train", 64, False)
    cv2.imwrite(split.paths[0], np.zeros((64, 10, 3), np.uint8))
    Path(split.paths[1]).unlink()
    with pytest.raises(DataError, match=r"000\.png: the image changed"):
        split.image(0)
    with pytest.raises(DataError, match=r"001\.png: image not there"):
        split.image(1)


def hold_in_ram(source: Path) -> subprocess.Popen[str]:
    """A process that has the split open in memory, until it gets a line."""
    place = f"memory.SHARED_MEMORY = pathlib.Path({str(memory.SHARED_MEMORY)!r})"
    code = f"import pathlib\nfrom tunekit.data import memory\n{place}\n{OPEN}sys.stdin.readline()\n"
    process = python(code, source, "ram")
    go(process)
    wait_for(process, "sum")
    return process


def ram_files() -> list[Path]:
    return sorted(memory.SHARED_MEMORY.glob("*/*.arrow"))


def test_memory_is_shared_and_given_back_by_the_last_process(data_set: DataSet) -> None:
    source = data_set()
    first, second = hold_in_ram(source), hold_in_ram(source)
    assert len(ram_files()) == 1
    first.communicate("\n")
    assert len(ram_files()) == 1
    second.communicate("\n")
    assert ram_files() == []


def test_what_a_killed_process_left_in_memory_is_removed_later(data_set: DataSet) -> None:
    process = hold_in_ram(data_set())
    (left,) = ram_files()
    process.kill()
    process.communicate()
    with filelock.FileLock(memory.lock_of(left)):
        memory.folder()
    assert ram_files() == [left], "a file that is being made may be waiting for its first holder"
    memory.folder()
    assert ram_files() == []
