"""Where to compute and in which precision: one decision for train, val and every trial."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

from tunekit.errors import ResourceError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them; in bytes
NEVER_TRIM = 2**31 - 1
# Where Linux says how much memory a container may take: control groups of version 2 and 1.
MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


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


def worker_devices(device: str | None, workers: int | None) -> tuple[str, ...]:
    """The device of each process that trains one model together; one entry: no others are needed.

    `device=0,1` is two GPUs; `workers=2 device=cpu` two processes on the CPU. Raises ResourceError where the
    machine has fewer devices than workers.
    """
    named = tuple((device or "").split(",")) if device and "," in device else ()
    if named:
        if workers not in (None, len(named)):
            raise ResourceError(f"workers={workers} does not fit device={device}: one worker a device")
        return tuple(str(select_device(name)) for name in named)
    first = select_device(device)
    count = workers or 1
    if first.type == "cuda" and count > 1:
        if device is not None and device not in ("cuda", "cuda:0", "0"):
            raise ResourceError(f"workers={count} on device={device}: name all the GPUs, as in device=0,1")
        return tuple(str(select_device(str(number))) for number in range(count))
    if first.type == "mps" and count > 1:
        raise ResourceError(f"workers={count}: an MPS device is one; leave workers out")
    return (str(first),) * count


def _devices() -> list[str]:
    gpus = [f"{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *gpus] + (
        [] if gpus else ["no CUDA GPU"]
    )


def set_determinism(device: torch.device, wanted: bool) -> None:
    """Repeatable arithmetic on CUDA, or the fastest; a CPU repeats itself anyway. Holds for the process."""
    if device.type != "cuda":
        return
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = not wanted


def keep_freed_memory(device: torch.device) -> None:
    """Let malloc keep what tensors on the CPU leave behind. Holds for the process.

    Every step wants the same buffers as the one before. Left alone, glibc hands the large ones back to the
    system each time, which has to fill them with zeros before it gives them out again: 5% of a step. Other
    allocators are left as they are.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(TRIM_THRESHOLD, NEVER_TRIM)
    for size in (2**30, 2**25):  # older versions refuse the first: what is larger they still hand back
        if mallopt(MMAP_THRESHOLD, size):
            break


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


def total_memory() -> int:
    """Bytes of memory that this machine, or the container that this process runs in, has; 0: not known."""
    if not hasattr(os, "sysconf"):
        return 0
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in MEMORY_LIMITS:
        try:
            sizes.append(int(path.read_text()))
        except (OSError, ValueError):  # no such limit: the file is not there, or says max
            continue
    return min(sizes)
