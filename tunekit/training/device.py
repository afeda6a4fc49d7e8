"""Where to compute and in which precision: one decision for train, val and every trial."""

from __future__ import annotations

import os

import torch

from tunekit.errors import ResourceError


def select_device(device: str | None) -> torch.device:
    """The device named by `device=`: cpu, mps, cuda, cuda:1 or 1; the best there is when None."""
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    name = f"cuda:{device}" if device.isdigit() else device.lower()
    if name == "cpu" or (name == "mps" and torch.backends.mps.is_available()):
        return torch.device(name)
    kind, _, number = name.partition(":")
    if kind == "cuda" and (number.isdigit() or not number) and int(number or 0) < torch.cuda.device_count():
        return torch.device("cuda", int(number or 0))
    raise ResourceError(f"device={device} is not there: this machine has {', '.join(_devices())}")


def _devices() -> list[str]:
    gpus = [f"{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *gpus] + (
        [] if gpus else ["no CUDA GPU"]
    )


def autocast_dtype(device: torch.device, amp: bool) -> torch.dtype | None:
    """The precision to compute in, None for float32. Only where the hardware is faster that way:
    CPUs with bf16 instructions (emulated bf16 is slower than float32), GPUs of the last ten years."""
    if not amp or device.type == "mps":
        return None
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else None
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
