"""How trials share the machine: what was asked for and what there is in, slots out.

A slot is the place one trial runs in: so many workers, each with so many CPU cores and GPUs. Pure but for
`read_machine`; knows nothing of trials' contents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tunekit.args import TuneArgs
from tunekit.errors import ResourceError
from tunekit.training.device import available_cores

MOST_BY_DEFAULT = 4  # CPU-only trials at a time: more of them make each one slow and the first news late


@dataclass(frozen=True)
class Machine:
    """What there is to compute with."""

    cores: int
    gpus: int
    mps: bool = False

    def __str__(self) -> str:
        gpus = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else "no CUDA GPU"
        return f"{self.cores} CPU core{'s' if self.cores > 1 else ''} and {gpus}"


@dataclass(frozen=True)
class Slots:
    """`concurrent` places for `workers` workers, each with `cpus` cores and `gpus` GPUs.

    `device` is the worker's own view: Ray shows it only its GPU, as number 0. `only_gpu` is the one GPU of
    the machine to use, None for any.
    """

    concurrent: int
    cpus: int
    gpus: float
    device: str
    only_gpu: int | None = None
    workers: int = 1

    def __str__(self) -> str:
        cores = f"{self.cpus} CPU core{'s' if self.cpus > 1 else ''}"
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        workers = f"{self.workers} workers of " if self.workers > 1 else ""
        return f"{self.concurrent} at a time on {workers}{cores}{gpus} each"


def read_machine() -> Machine:
    """This machine, as far as this process may use it."""
    return Machine(available_cores(), torch.cuda.device_count(), torch.backends.mps.is_available())


def plan_slots(args: TuneArgs, machine: Machine) -> Slots:
    """Slots as asked for, the rest from the machine. Raises ResourceError when that does not fit."""
    device, only_gpu = _device(args, machine)
    workers = args.workers or 1
    gpus = _gpus_per_worker(args, machine, device, workers)
    usable = (1 if only_gpu is not None else machine.gpus) if gpus else 0
    places = int(usable / (gpus * workers) + 1e-9) if gpus else None
    if args.concurrent is not None:
        concurrent = args.concurrent
        cpus = args.cpus or max(1, machine.cores // (concurrent * workers))
    elif places is not None:
        cpus = args.cpus or max(1, machine.cores // max(places * workers, 1))
        concurrent = max(1, min(places, machine.cores // (cpus * workers)))
    else:
        cpus = args.cpus or math.ceil(machine.cores / max(MOST_BY_DEFAULT, workers))
        concurrent = max(1, machine.cores // (cpus * workers))
    if device == "mps" and args.concurrent is None:
        concurrent = 1
    trials = f"{concurrent} trial{'s' if concurrent > 1 else ''} at a time"
    each = f"{workers} workers of " if workers > 1 else ""
    asked = ", ".join(
        f"{name}={value:g}"
        for name in ("workers", "concurrent", "cpus", "gpus")
        if (value := getattr(args, name)) is not None
    )
    if concurrent * workers * cpus > machine.cores:
        raise ResourceError(
            f"{asked}: {trials} with {each}{cpus} CPU "
            f"core{'s' if cpus > 1 else ''} each is more than there is: this machine has {machine}"
        )
    if gpus and concurrent * workers * gpus > usable + 1e-9:
        raise ResourceError(
            f"{asked or 'gpus'}: {trials} with {each}{gpus:g} GPU each "
            f"is more than there is: this machine has {machine}"
            + (f", of which device={args.device} is one" if only_gpu is not None else "")
        )
    return Slots(min(concurrent, args.iterations), cpus, gpus, device, only_gpu, workers)


def _device(args: TuneArgs, machine: Machine) -> tuple[str, int | None]:
    """The device as the trial will name it, and the machine's number of it where one was asked for."""
    if args.device is None:
        if machine.gpus and args.gpus != 0:
            return "cuda:0", None
        return ("mps" if machine.mps and not args.gpus else "cpu"), None
    if "," in args.device:
        count = args.device.count(",") + 1
        raise ResourceError(
            f"device={args.device}: Ray chooses each trial's GPUs; for {count} of them give workers={count}"
        )
    name = args.device.lower()
    name = f"cuda:{name}" if name.isdigit() else name
    if name == "cpu" or (name == "mps" and machine.mps):
        return name, None
    kind, _, number = name.partition(":")
    if kind == "cuda" and (number.isdigit() or not number) and int(number or 0) < machine.gpus:
        return "cuda:0", int(number) if number else None
    raise ResourceError(f"device={args.device} is not there: this machine has {machine}")


def _gpus_per_worker(args: TuneArgs, machine: Machine, device: str, workers: int) -> float:
    if device == "mps" and workers > 1:
        raise ResourceError(f"workers={workers}: an MPS device is one; leave workers out")
    if not device.startswith("cuda"):
        if args.gpus:
            what = f"device={args.device}" if args.device is not None else f"this machine has {machine}"
            raise ResourceError(f"gpus={args.gpus:g} cannot be given to trials: {what}")
        return 0.0
    gpus = 1.0 if args.gpus is None else args.gpus
    if gpus == 0:
        raise ResourceError(f"gpus=0 leaves nothing to run device={args.device} on: drop one of the two")
    if workers > 1 and gpus != 1:
        raise ResourceError(
            f"gpus={gpus:g}: of workers={workers} each needs a GPU of its own; leave gpus out"
        )
    if gpus > 1:
        raise ResourceError(
            f"gpus={gpus:g}: a worker trains on one GPU or on a part of one (gpus=0.5); "
            f"for {gpus:g} GPUs a trial give workers={gpus:.0f}"
        )
    return gpus
