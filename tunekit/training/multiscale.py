"""`multi_scale`: every batch at a size of its own, so that a detector meets objects at more sizes.

In: images (B, 3, H, W) and boxes in their pixels. Out: both at another size, a multiple of the stride. The
size is a function of (seed, epoch, batch), alike on every worker.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from tunekit.data.loader import Batch


def random_size(imgsz: int, spread: float, stride: int, chance: tuple[int, int, int]) -> int:
    """A multiple of `stride` drawn from imgsz·[1 − spread, 1 + spread]; `chance`: seed, epoch, batch."""
    # Four numbers: the loaders seed with three, so that nothing is drawn from the same stream.
    rng = np.random.default_rng((*chance, 1))
    low, high = int(imgsz * (1 - spread)), int(imgsz * (1 + spread)) + stride
    return max(int(rng.integers(low, high)) // stride, 1) * stride


def rescaled(images: Tensor, batch: Batch, size: int, stride: int) -> tuple[Tensor, Batch]:
    """`images` (float) with their long side `size`, and `batch` with its boxes moved along."""
    height, width = images.shape[2:]
    factor = size / max(height, width)
    if factor == 1:
        return images, batch
    new = [math.ceil(side * factor / stride) * stride for side in (height, width)]
    images = F.interpolate(images, size=new, mode="bilinear", align_corners=False)
    ratio = batch.boxes.new_tensor([new[1] / width, new[0] / height] * 2)
    return images, replace(batch, images=images, boxes=batch.boxes * ratio)
