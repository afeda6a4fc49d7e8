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

from tunekit.args import TrainArgs
from tunekit.errors import ArgumentError
from tunekit.models.build import DetectionModel
from tunekit.models.heads import HeadOutput
from tunekit.training.device import available_cores, total_memory

KEPT = 9  # a lane's memory in outputs of its convolutions; 8 to 11 were measured, 3 of them saved
SAMPLE = 2  # strides: the side of the image whose maps are counted
IN_A_ROW = 2  # batches: more would have to be loaded before the first of them is learned from
SHARE = 0.5  # of the memory that this process may fill with them, in proportion to its cores


Job = Callable[[Callable[[Tensor], HeadOutput]], Tensor]
"""Learns from one batch by a model that it is given."""


class Lanes:
    """Copies of one model, and a thread for each."""

    def __init__(self, model: DetectionModel, count: int, threads: int) -> None:
        """`threads` are shared out among the lanes at work."""
        self._threads = threads
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
        self.follow_mode()

    def follow_mode(self) -> None:
        self._statistics = _Statistics()
        for original, own in zip(self._original.modules(), self._model.modules(), strict=True):
            own.training = original.training
            if not (isinstance(own, _BatchNorm) and isinstance(original, _BatchNorm)):
                continue
            if own.training:
                self._statistics.of(original, own)
            else:  # it computes with the statistics that the original has
                own.running_mean, own.running_var = original.running_mean, original.running_var

    def run(self, jobs: Sequence[Job], threads: int) -> list[Tensor]:
        """In the lane's thread."""
        torch.get_num_threads()  # a thread gets the process's number at its first use, which is now over
        torch.set_num_threads(threads)
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
        self._statistics.hand_over(batches)


class _Statistics:
    """What the norms of a lane have seen, apart from the running statistics of the originals."""

    def __init__(self) -> None:
        self._running: list[Tensor] = []  # means and variances of the originals,
        self._own: list[Tensor] = []  # what the lane has to add to each of them,
        self._keeps: list[float] = []  # and the share that each keeps when a batch comes
        self._batches: list[Tensor] = []

    def of(self, original: _BatchNorm, own: _BatchNorm) -> None:
        """Take the lane's norm in."""
        mean, variance, batches = original.running_mean, original.running_var, original.num_batches_tracked
        if original.momentum is None or mean is None or variance is None or batches is None:
            raise ValueError(f"{original} has no running statistics that several batches can be added to")
        own.running_mean, own.running_var = torch.zeros_like(mean), torch.zeros_like(variance)
        own.num_batches_tracked = None  # they are counted once for all
        self._running += mean, variance
        self._own += own.running_mean, own.running_var
        self._keeps += [1 - original.momentum] * 2
        self._batches.append(batches)

    def hand_over(self, batches: int) -> None:
        """As if the originals had seen the lane's `batches` next."""
        torch._foreach_mul_(self._running, [keep**batches for keep in self._keeps])
        torch._foreach_add_(self._running, self._own)
        torch._foreach_add_(self._batches, batches)
        torch._foreach_zero_(self._own)  # from there, the next batches' share in the mean adds up


def check_lanes(args: TrainArgs, device: str, workers: int) -> bool:
    """Whether lanes are possible at all; raises ArgumentError where they are asked for and are not."""
    # A profile of threads at work side by side would show each of them waiting for the others.
    possible = device == "cpu" and workers == 1 and not (args.compile or args.profile)
    if args.lanes is not None and args.lanes > 1 and not possible:
        raise ArgumentError(
            f"lanes={args.lanes}: batches are learned from side by side by one worker on a CPU, and without "
            "compile=True and profile=True: set lanes=1"
        )
    return possible


def in_a_row(lanes: int) -> int:
    """Batches that each of `lanes` learns from before gradients are handed over, at most."""
    return IN_A_ROW if lanes > 1 else 1


def lanes_for(
    model: DetectionModel, *, batches: int, images: int, imgsz: int, threads: int, dtype: torch.dtype | None
) -> int:
    """How many lanes are worth it: for `batches` of `images` in a step, with `threads`, in this memory."""
    room = SHARE * total_memory() * threads / available_cores()
    needed = images * imgsz**2 * lane_bytes(model, dtype)
    return max(min(batches, threads, int(room // needed)), 1)


@torch.inference_mode()
def lane_bytes(model: DetectionModel, dtype: torch.dtype | None) -> float:
    """About what a lane takes while it learns from a batch, in bytes a pixel of the input."""
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
