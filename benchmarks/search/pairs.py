"""Pictures to train a start on: scenes as those of `digits`, drawn anew, with 0 and 1 as one class, 2 and 3
as the next, and so on. A detector of them knows what digits look like, as one of COCO knows what things look
like; which digit is which it has yet to learn. Handwriting is that of the digits' training images alone.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tunekit.data.digits import DIGIT_SIZE, DIGITS_A_SCENE, SIDE, handwriting
from tunekit.data.scenes import compose

SCENES = {"train": 1200, "val": 96}
SEED = 7


def ensure(folder: Path) -> Path:
    """The data set's YAML; made there unless it was."""
    source = folder / "pairs.yaml"
    return source if source.exists() else write(folder)


def write(folder: Path) -> Path:
    """The data set; its YAML."""
    inks, digits = handwriting("train")
    for number, (split, count) in enumerate(SCENES.items()):
        rng = np.random.default_rng((SEED, number))
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for scene_number in range(count):
            chosen = rng.choice(len(inks), int(rng.integers(DIGITS_A_SCENE[0], DIGITS_A_SCENE[1] + 1)))
            scene = compose(inks[chosen], rng.uniform(*DIGIT_SIZE, len(chosen)), SIDE, rng)
            cv2.imwrite(str(images / f"{scene_number:04d}.png"), scene.image[:, :, ::-1])
            classes = digits[chosen[list(scene.drawn)]] // 2
            corners = scene.boxes / SIDE
            boxes = np.column_stack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
            lines = [
                f"{kind} {' '.join(f'{x:.6f}' for x in box)}"
                for kind, box in zip(classes, boxes, strict=True)
            ]
            (labels / f"{scene_number:04d}.txt").write_text("\n".join(lines) + "\n")
    source = folder / "pairs.yaml"
    source.write_text("train: images/train\nval: images/val\nnames: ['01', '23', '45', '67', '89']\n")
    return source
