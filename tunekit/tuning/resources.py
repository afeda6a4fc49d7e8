"""How trials share the machine: what was asked for and what there is in, slots out.

A slot is the place one trial runs in: so many workers, each with so many CPU cores and GPUs. Pure but for
`read_machine`; knows nothing of trials' contents.
"""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass, replace

import torch

from tunekit.errors import ResourceError
from tunekit.search_args import TuneArgs
from tunekit.training.device import available_cores

MOST_BY_DEFAULT = 4  # CPU-only trials at a time: more of them make each one slow and the first news late


@dataclass(frozen=True)
class Node:
    """One computer."""

    name: str
    cores: int
    gpus: int = 0


@dataclass(frozen=True)
class Machine:
    """What there is to compute with: one computer, or a cluster of them."""

    nodes: tuple[Node, ...]
    mps: bool = False

    @property
    def cores(self) -> int:
        return sum(node.cores for node in self.nodes)

    @property
    def gpus(self) -> int:
        return sum(node.gpus for node in self.nodes)

    def places(self, cpus: int, gpus: float) -> int:
        """Workers of so much that fit; each on one node."""
        return sum(
            min(node.cores // cpus, int(node.gpus / gpus + 1e-9) if gpus else node.cores)
            for node in self.nodes
        )

    def __str__(self) -> str:
        if len(self.nodes) == 1:
            return f"this machine has {_things(self.nodes[0])}"
        each = "; ".join(f"{node.name}: {_things(node)}" for node in self.nodes)
        return f"the {len(self.nodes)} nodes of the cluster have {each}"


def _things(node: Node) -> str:
    gpus = f"{node.gpus} GPU{'s' if node.gpus > 1 else ''}" if node.gpus else "no CUDA GPU"
    return f"{node.cores} CPU core{'s' if node.cores != 1 else ''} and {gpus}"


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
        trials = f"{self.concurrent} trial{'s' if self.concurrent > 1 else ''} at a time"
        workers = f"{self.workers} workers of " if self.workers > 1 else ""
        cores = f"{self.cpus} CPU core{'s' if self.cpus > 1 else ''}"
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{trials} on {workers}{cores}{gpus} each"


def read_machine() -> Machine:
    """This machine, as far as this process may use it."""
    here = Node(platform.node(), available_cores(), torch.cuda.device_count())
    return Machine((here,), torch.backends.mps.is_available())


def plan_slots(args: TuneArgs, machine: Machine) -> Slots:
    """Slots as asked for, the rest from the machine. Raises ResourceError when that does not fit."""
    device, only_gpu = _device(args, machine)
    workers = args.workers or 1
    gpus = _gpus_per_worker(args, machine, device, workers)
    if only_gpu is not None:
        machine = Machine((replace(machine.nodes[0], gpus=1),))
    cpus = args.cpus or _cpus_per_worker(args, machine, gpus, workers)
    room = machine.places(cpus, gpus) // workers
    fitting = 1 if device == "mps" else room
    slots = Slots(args.concurrent or max(fitting, 1), cpus, gpus, device, only_gpu, workers)
    if slots.concurrent > room:
        asked = ", ".join(
            f"{name}={value:g}"
            for name in ("workers", "concurrent", "cpus", "gpus")
            if (value := getattr(args, name)) is not None
        )
        raise ResourceError(
            f"{asked or f'device={args.device}'}: {slots} is more than there is: {machine}"
            + (f", as device={args.device} is one GPU" if only_gpu is not None else "")
        )
    return replace(slots, concurrent=min(slots.concurrent, args.iterations))


def _cpus_per_worker(args: TuneArgs, machine: Machine, gpus: float, workers: int) -> int:
    """As many as leave room for all that run at a time, where all nodes have the same share."""
    shares = []
    nodes = [node for node in machine.nodes if node.cores]  # a head may be there for Ray alone
    for node in nodes:
        if args.concurrent is not None:
            here = math.ceil(args.concurrent * workers / len(nodes))
        elif gpus:
            here = int(node.gpus / gpus + 1e-9)
        else:
            here = max(MOST_BY_DEFAULT, workers)
        if here:  # a node without GPUs takes no part
            shares.append(node.cores // here if gpus or args.concurrent else math.ceil(node.cores / here))
    return max(min(shares, default=1), 1)


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
    raise ResourceError(f"device={args.device} is not there: {machine}")


def _gpus_per_worker(args: TuneArgs, machine: Machine, device: str, workers: int) -> float:
    if device == "mps" and workers > 1:
        raise ResourceError(f"workers={workers}: an MPS device is one; leave workers out")
    if not device.startswith("cuda"):
        if args.gpus:
            what = f"device={args.device}" if args.device is not None else f"{machine}"
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
