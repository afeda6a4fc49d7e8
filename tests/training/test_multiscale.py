"""Batches at sizes of their own: which sizes come, and that boxes stay on what they frame."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.data.loader import Batch
from tunekit.training.multiscale import random_size, rescaled


def batch_of(boxes: torch.Tensor, side: int) -> Batch:
    count = len(boxes)
    return Batch(
        images=torch.zeros(1, 3, side, side, dtype=torch.uint8),
        image_index=torch.zeros(count, dtype=torch.int64),
        classes=torch.zeros(count, dtype=torch.int64),
        boxes=boxes,
        records=torch.zeros(1, dtype=torch.int64),
    )


def test_all_sizes_around_imgsz_come_and_no_others():
    sizes = {random_size(160, 0.5, 32, (0, 0, number)) for number in range(300)}
    assert sizes == {64, 96, 128, 160, 192, 224, 256}


def test_a_size_is_a_function_of_seed_epoch_and_batch():
    def first(seed: int, epoch: int) -> list[int]:
        return [random_size(640, 0.5, 32, (seed, epoch, number)) for number in range(20)]

    assert first(1, 2) == first(1, 2)
    assert first(1, 2) != first(1, 3)
    assert first(1, 2) != first(2, 2)


def test_a_spread_below_a_stride_still_gives_a_whole_stride():
    assert random_size(32, 0.9, 32, (0, 0, 0)) == 32


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([32, 64, 96, 160, 192]))
def test_a_box_frames_its_object_at_any_size(seed, size):
    rng = np.random.default_rng(seed)
    x1, y1 = rng.integers(0, 64, 2).tolist()
    x2, y2 = (int(low + rng.integers(24, 64)) for low in (x1, y1))
    images = torch.zeros(1, 3, 128, 128)
    images[:, :, y1:y2, x1:x2] = 1
    boxes = torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32)
    new, batch = rescaled(images, batch_of(boxes, 128), size, 32)
    assert new.shape == batch.images.shape == (1, 3, size, size)
    rows, columns = (new[0, 0] > 0.5).nonzero(as_tuple=True)
    found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert (found - batch.boxes[0]).abs().max() <= 1
