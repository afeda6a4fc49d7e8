"""Where does the time of a training step go on this device?

Runs our engine on real batches and prints milliseconds a batch of its parts, which it names itself: waiting
for data, forward, loss, backward, step (optimizer and EMA), and everything else. The first epoch warms up.
The parts are timed by a clock around them, because torch's profiler makes small operators look slower than
they are; the profiler then watches one more epoch and names the operators that take most. On a GPU each part
waits for the device to end, so that its own work is counted; epochs without clocks show what that costs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import common
import datasets
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.training.engine import Engine
from tunekit.training.result import EpochResult

PARTS = {
    "data": "data: waiting for a batch",
    "forward": "forward",
    "loss": "loss: assigner included",
    "backward": "backward",
    "step": "step: optimizer and EMA",
}


class Clock:
    """Times the parts that the engine names with torch.profiler.record_function, in whose place it stands."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: dict[tuple[str, ...], list[float]] = {}  # names from the outside in -> ms of each time
        self._open: tuple[str, ...] = ()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within it, tunekit's modules have this clock instead of record_function."""
        name = "record_function"
        modules = [module for path, module in sys.modules.items() if path.startswith("tunekit.")]
        users = [module for module in modules if vars(module).get(name) is record_function]
        for module in users:
            setattr(module, name, self.part)
        try:
            yield
        finally:
            for module in users:
                setattr(module, name, record_function)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # a loader's
            yield
            return
        outside, self._open = self._open, (*self._open, name)
        start = self._now()
        try:
            yield
        finally:
            self.spent.setdefault(self._open, []).append(self._now() - start)
            self._open = outside

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * time.perf_counter()


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "profile_training")
    common.add_work(found)
    found.add_argument("--model", default="yolo11n.yaml")
    found.add_argument("--imgsz", type=int, default=160)
    found.add_argument("--batch", type=int, default=16)
    found.add_argument("--fraction", type=float, default=1.0, help="share of the training images")
    found.add_argument("--epochs", type=int, default=2, help="epochs that are timed (%(default)s)")
    found.add_argument("--top", type=int, default=15, help="operators to name; 0: do not run the profiler")
    found.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="more arguments of our train"
    )
    options = found.parse_args()
    if options.epochs < 1:
        found.error("--epochs must be at least 1")
    return options


def main() -> None:
    options, began = arguments(), common.machine()
    settings = {
        "model": options.model,
        "data": datasets.for_ours(options.data),
        "imgsz": options.imgsz,
        "batch": options.batch,
        "fraction": options.fraction,
        "device": options.device,
        "threads": options.threads,
        "optimizer": "SGD",
        "close_mosaic": 0,
        "patience": 0,
        "lanes": 1,  # side by side, parts would be counted as longer than they are
        "val": False,
        # One to warm up, some without and some with clocks, one profiled; the last would be validated.
        "epochs": 2 * options.epochs + 3,
        **common.parsed(options.set),
    }
    with closing(Engine(build_args(TrainArgs, settings))) as engine:
        lines = measured(options, engine)
    common.report("Where a training step's time goes", began, lines, options.out)


def measured(options: argparse.Namespace, engine: Engine) -> list[str]:
    epochs, clock = engine.epochs(), Clock(engine.device)
    next(epochs)
    plain = milliseconds(epochs, options.epochs, engine)
    with clock.running():
        clocked = milliseconds(epochs, options.epochs, engine)
    if not clock.spent:
        raise SystemExit("the engine names no parts with torch.profiler.record_function: nothing to time")
    batches = options.epochs * len(engine.train_loader)
    precision = str(engine.amp_dtype or "float32").removeprefix("torch.")
    rate = 1e3 * len(engine.source) / len(engine.train_loader) / plain
    lines = [
        f"{options.model}, {options.imgsz} px, batch {options.batch}, {options.data}, default augmentation, "
        f"{engine.device}, {options.threads} threads, {precision}; {batches} batches",
        "",
        *parts_table(clock, clocked, batches),
        "",
        f"- without clocks: {plain:.2f} ms a batch, {rate:.1f} images/s",
    ]
    if options.top:
        lines += ["", *operators_table(epochs, engine, options.top)]
    return lines


def milliseconds(epochs: Iterator[EpochResult], number: int, engine: Engine) -> float:
    """A batch of the training loop, the mean over some epochs."""
    an_image = statistics.fmean(1e3 / next(epochs).images_per_second for _ in range(number))
    return an_image * len(engine.source) / len(engine.train_loader)


def parts_table(clock: Clock, whole: float, batches: int) -> list[str]:
    """Milliseconds a batch by part; `whole` is the milliseconds a batch of all."""
    outer = sorted(
        (names for names in clock.spent if len(names) == 1),
        key=lambda names: list(PARTS).index(names[0]) if names[0] in PARTS else len(PARTS),
    )
    rows, rest = [], whole
    for (name,) in outer:
        rest -= sum(clock.spent[name,]) / batches
        # A part within another is counted in it, too.
        for names in sorted(each for each in clock.spent if each[0] == name):
            spent = clock.spent[names]
            each = sum(spent) / batches
            shown = PARTS.get(name, name) if names == (name,) else f"of it {' / '.join(names[1:])}"
            rows.append([shown, f"{each:.2f}", f"{each / whole:.1%}", f"{max(spent):.2f}"])
    for shown, each in (("everything else", rest), ("all", whole)):
        rows.append([shown, f"{each:.2f}", f"{each / whole:.1%}", ""])
    return common.table(["part", "ms a batch", "share", "longest, ms"], rows)


def operators_table(epochs: Iterator[EpochResult], engine: Engine, top: int) -> list[str]:
    """The operators that take most time of their own, of one epoch under the profiler."""
    cuda = engine.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as watched:
        next(epochs)
    which = "self_device_time_total" if cuda else "self_cpu_time_total"
    found = sorted(watched.key_averages(), key=lambda event: getattr(event, which), reverse=True)
    batches = len(engine.train_loader)
    rows = [
        [event.key[:70], f"{getattr(event, which) / 1e3 / batches:.2f}", f"{event.count / batches:.1f}"]
        for event in found
        if event.key not in PARTS
    ]
    where = "the device" if cuda else "the training thread"
    table = common.table(["operator", "ms a batch", "calls a batch"], rows[:top])
    return [f"Operators by time of their own on {where}, under the profiler:", "", *table]


if __name__ == "__main__":
    main()
