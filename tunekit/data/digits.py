"""The embedded data set: real handwritten digits on textured scenes, written on first use.

The 1,797 digits shipped in digits.npz (source and licence: digits.LICENSE.txt) in, a folder with
images, YOLO labels and a data YAML out, in the user's cache folder. The same on every run of a machine.
Train, val and test are drawn with different handwriting.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from importlib import resources
from pathlib import Path

import cv2
import filelock
import numpy as np

from tunekit.data.cachedir import cache_folder
from tunekit.data.scenes import compose
from tunekit.errors import DataError

VERSION = 1  # raise it when the same settings would draw other scenes
SEED = 1998
SIDE = 160  # pixels, width and height of a scene
SCENES = {"train": 384, "val": 96, "test": 96}
DIGITS_A_SCENE = (2, 5)
DIGIT_SIZE = (24.0, 64.0)  # pixels, a digit's long side
# Neighbours in the file tend to be of one writer, so the splits take runs of it, not every n-th digit.
HANDWRITING = {"train": (0, 1200), "val": (1200, 1500), "test": (1500, 1797)}
JPEG_QUALITY = 92


def ensure_digits() -> Path:
    """The data YAML of the embedded data set, which the first call on a machine writes."""
    folder = cache_folder("digits") / _folder_name()
    source = folder / "digits.yaml"
    if source.exists():
        return source
    try:
        with filelock.FileLock(folder.with_suffix(".lock")):
            if not source.exists():
                _write_whole(folder)
    except OSError as fault:
        raise DataError(
            f"cannot write the embedded digits to {folder}: {fault.strerror or fault};"
            " set TUNEKIT_CACHE to a folder with room that can be written"
        ) from fault
    return source


def handwriting(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The digits a split is drawn with: (n, 8, 8) float32 ink 0..1 and (n,) int64 which digit it is."""
    with (resources.files("tunekit.data") / "digits.npz").open("rb") as file:
        stored = np.load(file)
        images, labels = stored["images"], stored["labels"]
    first, end = HANDWRITING[split]
    return images[first:end].astype(np.float32) / 16, labels[first:end].astype(np.int64)


def _folder_name() -> str:
    settings = repr((VERSION, SEED, SIDE, SCENES, DIGITS_A_SCENE, DIGIT_SIZE, HANDWRITING, JPEG_QUALITY))
    return f"digits-{VERSION}-{hashlib.blake2b(settings.encode(), digest_size=4).hexdigest()}"


def _write_whole(folder: Path) -> None:
    """Write under another name and rename: who sees the folder sees all of it. We have the lock."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for number, split in enumerate(SCENES):
            _write_split(temporary, split, np.random.default_rng((SEED, number)))
        licence = resources.files("tunekit.data") / "digits.LICENSE.txt"
        (temporary / "LICENSE.txt").write_bytes(licence.read_bytes())
        splits = "".join(f"{split}: images/{split}\n" for split in SCENES)
        names = ", ".join(f"'{digit}'" for digit in range(10))
        (temporary / "digits.yaml").write_text(f"{splits}names: [{names}]\n")
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)  # one without its YAML: somebody cleaned up in part
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_split(root: Path, split: str, rng: np.random.Generator) -> None:
    images, labels = root / "images" / split, root / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    inks, classes = handwriting(split)
    least, most = DIGITS_A_SCENE
    order = np.concatenate([rng.permutation(len(inks)) for _ in range(1 + SCENES[split] * most // len(inks))])
    used = 0
    for number in range(SCENES[split]):
        count = int(rng.integers(least, most + 1))
        chosen = order[used : used + count]
        used += count
        scene = compose(inks[chosen], rng.uniform(*DIGIT_SIZE, count), SIDE, rng)
        _, encoded = cv2.imencode(".jpg", scene.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (images / f"{number:04d}.jpg").write_bytes(encoded.tobytes())
        lines = _label_lines(scene.boxes / SIDE, classes[chosen[list(scene.drawn)]])
        (labels / f"{number:04d}.txt").write_text(lines)


def _label_lines(boxes: np.ndarray, classes: np.ndarray) -> str:
    """YOLO's text for x1, y1, x2, y2 as shares of the image."""
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    rows = zip(classes, np.column_stack([centres, sizes]), strict=True)
    return "".join(f"{digit} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for digit, (x, y, w, h) in rows)
