"""batch=-1 and batch=0.7: how many images a training step may hold, from measured GPU memory.

In: a model on its device, the size of its images, the share of the memory to fill. Out: a batch and a
sentence about it. Memory grows with the batch along a straight line, so a few small batches tell where it
ends. Knows nothing of data; a sum that keeps the same predictions in memory stands in for the loss.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tunekit.errors import ResourceError
from tunekit.models.build import DetectionModel
from tunekit.models.heads import HeadOutput

USUAL_SHARE = 0.6
UNMEASURED = 16
LARGEST = 1024  # larger batches train no faster, and gradients get few
TRIED = (2, 4, 8, 16, 32, 64)  # not 1: batch norm cannot train on a single 1x1 map
MOMENTA = 2  # tensors of the parameters' size that an optimizer keeps, at most
GIB = 2**30


def measured_batch(
    model: DetectionModel,
    imgsz: int,
    share: float,
    device: torch.device,
    amp_dtype: torch.dtype | None,
) -> tuple[int, str]:
    """The batch on this one device that fills `share` (-1: 60%) of its memory, and a sentence about it.

    `model` is left as it was. Raises ResourceError where two images do not fit.
    """
    if device.type != "cuda":
        return UNMEASURED, (
            f"batch={UNMEASURED}: memory can be measured on CUDA only, not on {device.type}; "
            "name another batch if this one does not suit"
        )
    share = USUAL_SHARE if share == -1 else share
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device)  # other programs, and CUDA itself
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    besides = others + MOMENTA * weights
    step = TrainingStep(
        copy.deepcopy(model).train(), imgsz, device, amp_dtype
    )  # as much as the running average
    peaks, most = measured_peaks(step, share * total - besides)
    del step
    torch.cuda.empty_cache()
    if not peaks:
        raise ResourceError(
            f"batch={share:g}: {TRIED[0]} images of imgsz={imgsz} do not fit into the memory of {device}, of "
            f"which {free / GIB:.1f} of {total / GIB:.1f} GiB are free: lower imgsz, or take a smaller model"
        )
    line = fitted_line(peaks)
    batch = line.batch(share * total - besides, most)
    filled = (line.memory(batch) + besides) / total
    return batch, (
        f"batch={batch}: by measurement fills {filled:.0%} of the {total / GIB:.1f} GiB of {device}"
        f" (wanted: {share:.0%})"
    )


@dataclass(frozen=True)
class MemoryLine:
    """Bytes that a training step takes: base + each · batch."""

    base: float
    each: float

    def memory(self, batch: int) -> float:
        return self.base + self.each * batch

    def batch(self, limit: float, most: int = LARGEST) -> int:
        """The largest batch, from 1 to `most`, that stays within `limit` bytes."""
        return int(min(max((limit - self.base) // self.each, 1), most))


def fitted_line(peaks: Sequence[tuple[int, int]]) -> MemoryLine:
    """The line nearest to measured (batch, bytes); through the origin where there is one measurement only."""
    batches, memory = np.array(peaks, dtype=float).T
    if len(peaks) == 1:
        return MemoryLine(0.0, memory[0] / batches[0])
    off = batches - batches.mean()
    each = (off * memory).sum() / (off * off).sum()
    if each <= 0:
        raise ResourceError(
            "the memory of a training step was measured not to grow with the batch "
            f"({', '.join(f'{batch}: {size / GIB:.2f} GiB' for batch, size in peaks)}): name a batch"
        )
    return MemoryLine(float(memory.mean() - each * batches.mean()), float(each))


def measured_peaks(step: Callable[[int], int], limit: float) -> tuple[list[tuple[int, int]], int]:
    """(batch, bytes) of `step` at growing batches, until `limit` bytes are passed or memory runs out.

    Second: the largest batch that may be taken, below one that was seen not to fit.
    """
    peaks: list[tuple[int, int]] = []
    for batch in TRIED:
        try:
            peaks.append((batch, step(batch)))
        except torch.cuda.OutOfMemoryError:
            return peaks, batch - 1
        if peaks[-1][1] > limit and len(peaks) > 1:
            break
    return peaks, LARGEST


class TrainingStep:
    """A training step on `batch` black images: called, it gives the bytes that the GPU held for it."""

    def __init__(
        self, model: DetectionModel, imgsz: int, device: torch.device, amp_dtype: torch.dtype | None
    ) -> None:
        self._model, self._imgsz, self._device, self._dtype = model, imgsz, device, amp_dtype

    def __call__(self, batch: int) -> int:
        self.train(batch)  # the first at a size may try several kernels
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        self.train(batch)
        return torch.cuda.max_memory_reserved(self._device)

    def train(self, batch: int) -> None:
        dtype = self._dtype or torch.float32
        images = torch.zeros(batch, 3, self._imgsz, self._imgsz, dtype=dtype, device=self._device)
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None):
            output = self._model(images)
        _loss(output).backward()


def _loss(output: HeadOutput) -> Tensor:
    """Like the real one, it keeps float32 copies of all predictions for its gradients."""
    boxes, classes = output.box.float(), output.cls.float()
    loss = boxes.square().mean() + torch.nn.functional.softplus(classes).mean()
    return loss if output.one_to_one is None else loss + _loss(output.one_to_one)
