"""A tiny data set on disk, and a cache folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

DataSet = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data_set(tmp_path: Path) -> DataSet:
    """Writes `count` images with a label of two boxes each per split; returns the YAML."""

    def write(count: int = 4, size: tuple[int, int] = (48, 64)) -> Path:
        root, rng = tmp_path / "set", np.random.default_rng(0)
        for split in ("train", "val"):
            images, labels = root / "images" / split, root / "labels" / split
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                cv2.imwrite(str(images / f"{index:03d}.png"), pixels)
                (labels / f"{index:03d}.txt").write_text(
                    f"0 0.5 0.5 0.2 0.{index % 9 + 1}\n1 0.25 0.75 0.5 0.5\n"
                )
        source = root / "data.yaml"
        source.write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
        return source

    return write
