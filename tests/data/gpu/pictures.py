"""Pictures of noise with objects of random outlines, for comparing pixels and boxes of two ways."""

from __future__ import annotations

import numpy as np

from tests.data.pictures import Pictures


def outlined(n: int, imgsz: int, seed: int = 0) -> Pictures:
    """`n` pictures, lying and standing, with up to three objects each, of which most have an outline."""
    rng = np.random.default_rng(seed)
    images, boxes, outlines = [], [], []
    for i in range(n):
        w, h = (imgsz, imgsz * 3 // 4)[:: 1 if i % 2 else -1]
        images.append(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
        points = [
            (rng.random((int(rng.integers(3, 9)), 2)) * rng.choice([0.3, 1])).astype(np.float32)
            for _ in range(int(rng.integers(0, 4)))
        ]
        rows = [(k, *(p.min(0) + p.max(0)) / 2, *(p.max(0) - p.min(0))) for k, p in enumerate(points)]
        boxes.append(np.array(rows, np.float32).reshape(-1, 5))
        outlines.append(tuple(p if rng.random() < 0.8 else None for p in points))
    return Pictures(images, boxes, imgsz, outlines)
