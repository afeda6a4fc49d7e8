"""What a model costs where it is used: a detector in, figures by the names of tune's objectives out.

    parameters   millions
    gflops       billions of multiplications and additions, for an image of imgsz x imgsz
    latency      milliseconds from an image's bytes to its boxes and scores, at batch 1; without NMS, whose
                 time depends on what is found

All are of the copy that is made for inference: norms folded into the convolutions and, where a model has two
heads, only the one that needs no NMS. They depend on the architecture and not on the weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from tunekit.evaluation.validator import forward
from tunekit.models.build import DetectionModel
from tunekit.models.fuse import fused

DIGITS = 4  # of a figure
WARM_UP = 3  # passes: memory is asked for, kernels are chosen
LEAST, MOST, SECONDS = 10, 200, 1.0  # passes that are timed: as many as fit into the time, within these


@dataclass(frozen=True)
class Setting:
    """Where, at which size and in which precision a model is used; on a CPU with torch's present threads."""

    imgsz: int
    device: torch.device
    amp_dtype: torch.dtype | None


def measure_costs(names: Sequence[str], model: DetectionModel, setting: Setting) -> dict[str, float]:
    """The costs `names` (keys of COSTS) of `model`, which is left alone."""
    detector = fused(model, setting.amp_dtype, nms_free=model.end2end)
    return {name: float(f"{COSTS[name](detector, setting):.{DIGITS}g}") for name in names}


def _parameters(detector: DetectionModel, setting: Setting) -> float:
    return sum(parameter.numel() for parameter in detector.parameters()) / 1e6


def _gflops(detector: DetectionModel, setting: Setting) -> float:
    from torch.utils.flop_counter import FlopCounterMode  # here: it imports triton, which few searches need

    with FlopCounterMode(display=False) as counter:
        _detect(detector, setting)
    return float(counter.get_total_flops()) / 1e9


def _latency(detector: DetectionModel, setting: Setting) -> float:
    """The median: other trials may compute beside this one."""
    for _ in range(WARM_UP):
        _detect(detector, setting)
    times: list[float] = []
    while len(times) < LEAST or (len(times) < MOST and sum(times) < SECONDS):
        start = time.perf_counter()
        _detect(detector, setting)
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


COSTS: dict[str, Callable[[DetectionModel, Setting], float]] = {
    "parameters": _parameters,
    "gflops": _gflops,
    "latency": _latency,
}


@torch.no_grad()
def _detect(detector: DetectionModel, setting: Setting) -> None:
    """One pass, to its end."""
    side = setting.imgsz
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    detector.decode(forward(detector, image, setting.device, setting.amp_dtype))
    if setting.device.type == "cuda":
        torch.cuda.synchronize(setting.device)
