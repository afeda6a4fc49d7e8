"""Batches of one optimizer step, learned from side by side on a CPU.

A step sums the gradients of nbs / batch batches, which do not depend on each other. Convolutions over small
maps hardly get faster with more threads, so the cores are worth more when they are shared out: each lane is a
thread with some of them and a copy of the model, which shares its weights but has gradients and batch
statistics of its own. Those are taken in afterwards in the order of the batches, so that the result is the
one of the same batches one after another, whichever lane is done first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tunekit.models.build import DetectionModel
from tunekit.models.heads import HeadOutput
from tunekit.training.device import available_cores, total_memory

KEPT = 3  # tensors that a convolution, its norm and its activation keep for the backward pass
SAMPLE = 2  # strides: the side of the image whose maps are counted
IN_A_ROW = 2  # batches: more would have to be loaded before the first of them is learned from
SHARE = 0.5  # of the memory that this process may fill with them, in proportion to its cores


Job = Callable[[Callable[[Tensor], HeadOutput]], Tensor]
"""Learns from one batch by a model that it is given."""


class Lanes:
    """Copies of one model, and a thread for each."""

    def __init__(self, model: DetectionModel, count: int, threads: int) -> None:
        """`threads` are shared out among the lanes at work."""
        self._model, self._threads = model, threads
        self._lanes = [_Lane(model) for _ in range(count)]
        self._pool = ThreadPoolExecutor(count, "tunekit-lane")

    def follow_mode(self) -> None:
        """Train or evaluate as the model does, module by module."""
        for lane in self._lanes:
            lane.follow_mode()

    def run(self, jobs: Sequence[Job]) -> list[Tensor]:
        """What the jobs return, each called with a model in which it leaves gradients.

        Every lane takes as many, one after another; the gradients are added to the model's own.
        """
        lanes = self._lanes[: len(jobs)]
        each, rest = divmod(len(jobs), len(lanes))
        if rest:
            raise ValueError(f"{len(jobs)} jobs cannot be shared out evenly among {len(lanes)} lanes")
        threads = max(self._threads // len(lanes), 1)
        started = [
            self._pool.submit(lane.run, jobs[place * each : (place + 1) * each], threads)
            for place, lane in enumerate(lanes)
        ]
        wait(started)
        results = [result for lane in started for result in lane.result()]
        for lane in lanes:
            lane.hand_over(each)
        return results

    def close(self) -> None:
        self._pool.shutdown()


class _Lane:
    """One copy of the model."""

    def __init__(self, model: DetectionModel) -> None:
        self._original, self._model = model, copy.deepcopy(model)
        self._parameters = list(zip(model.parameters(), self._model.parameters(), strict=True))
        for original, own in self._parameters:
            own.data = original.data
        self._norms: list[_Norm] = []  # those that collect statistics
        self.follow_mode()

    def follow_mode(self) -> None:
        self._norms = []
        for original, own in zip(self._original.modules(), self._model.modules(), strict=True):
            own.training = original.training
            if not (isinstance(own, _BatchNorm) and isinstance(original, _BatchNorm)):
                continue
            if own.training:
                self._norms.append(_Norm(original, own))
            else:  # it computes with the statistics that the original has
                own.running_mean, own.running_var = original.running_mean, original.running_var

    def run(self, jobs: Sequence[Job], threads: int) -> list[Tensor]:
        """In the lane's thread."""
        torch.get_num_threads()  # a thread gets the process's number at its first use, which is now over
        torch.set_num_threads(threads)
        for norm in self._norms:
            norm.clear()
        return [job(self._model) for job in jobs]

    @torch.no_grad()
    def hand_over(self, batches: int) -> None:
        """Add gradients and statistics to the original's, as if it had seen these batches next."""
        sums, more = [], []
        for original, own in self._parameters:
            if own.grad is None:
                continue
            if original.grad is None:
                original.grad = own.grad
            else:
                sums.append(original.grad)
                more.append(own.grad)
            own.grad = None
        if sums:
            torch._foreach_add_(sums, more)
        for norm in self._norms:
            norm.hand_over(batches)


class _Norm:
    """The running statistics of one norm in a lane, apart from those of the original."""

    def __init__(self, original: _BatchNorm, own: _BatchNorm) -> None:
        mean, variance, seen = original.running_mean, original.running_var, original.num_batches_tracked
        if original.momentum is None or mean is None or variance is None or seen is None:
            raise ValueError(f"{original} has no running statistics that several batches can be added to")
        self._mean, self._variance, self._batches = mean, variance, seen
        self._keep = 1 - original.momentum
        self._own_mean, self._own_variance = torch.empty_like(mean), torch.empty_like(variance)
        own.running_mean, own.running_var = self._own_mean, self._own_variance

    def clear(self) -> None:
        """From zero, what they are after some batches is these batches' share in the mean."""
        self._own_mean.zero_()
        self._own_variance.zero_()

    def hand_over(self, batches: int) -> None:
        old = self._keep**batches
        self._mean.mul_(old).add_(self._own_mean)
        self._variance.mul_(old).add_(self._own_variance)
        self._batches.add_(batches)


def in_a_row(lanes: int) -> int:
    """Batches that each of `lanes` learns from before gradients are handed over, at most."""
    return IN_A_ROW if lanes > 1 else 1


def lanes_for(
    model: DetectionModel, *, batches: int, images: int, imgsz: int, threads: int, dtype: torch.dtype | None
) -> int:
    """How many lanes are worth it: for `batches` of `images` in a step, with `threads`, in this memory."""
    room = SHARE * total_memory() * threads / available_cores()
    needed = images * imgsz**2 * kept_bytes(model, dtype)
    return max(min(batches, threads, int(room // needed)), 1)


@torch.inference_mode()
def kept_bytes(model: DetectionModel, dtype: torch.dtype | None) -> float:
    """About what training keeps for the backward pass, in bytes a pixel of the input."""
    values = 0

    def count(module: nn.Module, given: object, made: Tensor) -> None:
        nonlocal values
        values += made.numel()

    watched = copy.deepcopy(model).eval()
    for module in watched.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    side = SAMPLE * max(model.stride)
    watched(torch.zeros(1, 3, side, side, device=next(model.parameters()).device))
    return KEPT * (dtype or torch.float32).itemsize * values / side**2
