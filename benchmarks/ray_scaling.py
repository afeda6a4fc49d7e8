"""How busy does a large search on Ray keep its slots, and what does that cost the driver?

All of `tunekit tune` runs, on a Ray that is told to have a core for each slot; only the trainer is replaced,
by one that sleeps as long as an epoch would take (simulated.py). `--shrink 10` makes all epochs 10 times
shorter, and so the driver's work 10 times as dense as in the search that it stands for. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import memory
import numpy as np
import pyarrow.parquet
from simulated import FASTEST, SLOWEST, SleepingTrial, Work

from tunekit import cluster
from tunekit.checks import build_args
from tunekit.search_args import TuneArgs
from tunekit.tuning import sitting
from tunekit.tuning.plan import Plan
from tunekit.tuning.run import tune

STEPS = (100, 500, 1000, 2000, 5000, 10000)
KINDS = ("driver", "Ray", "trials")
TITLES = (
    SleepingTrial.__name__,
    "ResourceTrainable",
)  # of a slot's process, the second by `tune.with_resources`


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "ray_scaling")
    found.add_argument("--trials", type=int, default=2000)
    found.add_argument("--slots", type=int, default=64)
    found.add_argument("--epochs", type=int, default=30)
    found.add_argument("--shrink", type=float, default=10.0, help="epochs are so many times shorter")
    found.add_argument("--sampler", default="genetic")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--interval", type=float, default=20.0, help="seconds between looks at all processes")
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    folder, watch = options.out / "tune", Watch(options.interval)
    shutil.rmtree(folder, ignore_errors=True)
    options.out.mkdir(parents=True, exist_ok=True)
    # Ray starts all slots' processes at once, as on a machine that has these cores: on fewer of them none may
    # be up in the minute after which Ray starts it anew, and so on for ever.
    os.environ["RAY_worker_register_timeout_seconds"] = "600"  # noqa: SIM112 - as Ray spells it
    with (
        (options.out / "tune.log").open("w") as log,
        contextlib.redirect_stdout(log),
        cluster.running_ray(options.slots, 0, {}),
        watch,
    ):
        search(options)
    epochs = Epochs.read(folder / "results.parquet")
    common.report("Scaling: a large search on Ray", began, summary(options, epochs, watch.looks), options.out)


def search(options: argparse.Namespace) -> None:
    """`tunekit tune`, with the trainer replaced."""
    settings = {
        "model": "yolo11p.yaml",
        "data": "digits",
        "iterations": options.trials,
        "confirm": 0,
        "epochs": options.epochs,
        "sampler": options.sampler,
        "seed": options.seed,
        "scheduler": "asha",
        "concurrent": options.slots,
        "cpus": 1,
        "device": "cpu",
        "project": str(options.out.resolve()),
        "name": "tune",
        "exist_ok": True,
    }

    def work(run: Path, plan: Plan, *rest: Any) -> Work:
        return Work(run, plan.space, options.epochs, options.shrink, options.slots)

    sitting.TuneTrial, sitting.Job = SleepingTrial, work  # type: ignore[misc,assignment]
    tune(build_args(TuneArgs, settings))


@dataclass(frozen=True)
class Look:
    """At a moment, by kind of process: CPU seconds so far, and memory (PSS) in MB."""

    at: float
    seconds: dict[str, float]
    memory: dict[str, float]


class Watch(threading.Thread):
    """Looks at all processes of this search while the block runs."""

    def __init__(self, interval: float) -> None:
        super().__init__(daemon=True)
        self.interval = interval
        self.looks: list[Look] = []
        self._spent: dict[int, float] = {}  # by process, as far as it was seen
        self._seconds = dict.fromkeys(KINDS, 0.0)  # of processes that have ended too
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        over = False
        while not over:
            self._look()
            over = self._over.wait(self.interval)
        self._look()

    def _look(self) -> None:
        sizes = dict.fromkeys(KINDS, 0.0)
        for pid in memory.tree(os.getpid()):
            what = kind(pid)
            sizes[what] += memory.pss(pid)
            spent, before = cpu_seconds(pid), self._spent.get(pid, 0.0)
            if spent > before:  # 0 of one that has just ended
                self._seconds[what] += spent - before
                self._spent[pid] = spent
        self.looks.append(Look(time.time(), dict(self._seconds), sizes))


def kind(pid: int) -> str:
    if pid == os.getpid():
        return "driver"
    title = memory.read(pid, "cmdline")
    return "trials" if any(name in title for name in TITLES) else "Ray"


def cpu_seconds(pid: int) -> float:
    """User's and system's; 0 of a process that has just ended."""
    fields = memory.read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Epochs:
    """All epochs of the search, by slot and in order: (N,) arrays, times in seconds since 1970."""

    slot: np.ndarray
    trial: np.ndarray
    began: np.ndarray
    ended: np.ndarray

    @staticmethod
    def read(table: Path) -> Epochs:
        columns = pyarrow.parquet.read_table(table, columns=["slot", "trial", "began", "ended"]).to_pydict()
        slot, trial, began, ended = (np.array(columns[name]) for name in ("slot", "trial", "began", "ended"))
        order = np.lexsort((began, slot))
        return Epochs(slot[order], trial[order], began[order], ended[order])

    def trials_ends(self) -> np.ndarray:
        """In order."""
        return np.sort([self.ended[self.trial == number].max() for number in np.unique(self.trial)])

    def trials_begins(self) -> np.ndarray:
        return np.sort([self.began[self.trial == number].min() for number in np.unique(self.trial)])

    def trained(self, start: float, end: float) -> float:
        """Seconds of all slots together between two moments."""
        inside = np.minimum(self.ended, end) - np.maximum(self.began, start)
        return float(np.maximum(inside, 0).sum())

    def pauses(self, start: float, end: float, same_trial: bool) -> np.ndarray:
        """Seconds between an epoch's end and the slot's next one: of the same trial, or of the next one."""
        after, before = slice(1, None), slice(None, -1)
        chosen = self.slot[after] == self.slot[before]
        chosen &= (self.trial[after] == self.trial[before]) == same_trial
        chosen &= (start <= self.ended[before]) & (self.ended[before] < end)
        return (self.began[after] - self.ended[before])[chosen]


def summary(options: argparse.Namespace, epochs: Epochs, looks: Sequence[Look]) -> list[str]:
    ends, begins = epochs.trials_ends(), epochs.trials_begins()
    start, last_begin, end = begins[0], begins[-1], ends[-1]
    full = begins[min(options.slots, len(begins)) - 1]  # all slots have begun
    share = {
        "the whole search": (start, end),
        "until the last trial was handed out": (start, last_begin),
        "of that, since all slots had their processes": (full, last_begin),
    }
    rows, since = [], start
    for step in [*(step for step in STEPS if step < len(ends)), len(ends)]:
        until = ends[step - 1]
        rows.append([step, *band(epochs, looks, since, until)])
        since = until
    header = [
        "finished trials",
        "between two epochs, ms",
        "between two trials, ms",
        "driver, of a core",
        "Ray, of a core",
        "driver MB",
        "all MB",
    ]
    what = (
        f"{len(ends)} trials of {options.epochs} epochs at most, {options.slots} at a time, "
        f"{options.sampler}, asha; an epoch sleeps {FASTEST / options.shrink:.2g} to "
        f"{SLOWEST / options.shrink:.2g} s ({options.shrink:g} times less than it stands for). Since the "
        "line before: how long a slot waits, medians (99th percentiles); CPU; the most memory (PSS)"
    )
    busy = [
        f"- slots were training {epochs.trained(*span) / (options.slots * (span[1] - span[0])):.1%} of "
        f"{(span[1] - span[0]) / 60:.1f} min: {name}"
        for name, span in share.items()
        if span[1] > span[0]
    ]
    return [what, "", *common.table(header, rows), "", *busy]


def band(epochs: Epochs, looks: Sequence[Look], since: float, until: float) -> list[str]:
    """A line of the table, of what was between two moments."""
    pauses = [told(epochs.pauses(since, until, same_trial)) for same_trial in (True, False)]
    at = [one.at for one in looks]
    spent = [
        np.interp([since, until], at, [one.seconds[name] for one in looks]) for name in ("driver", "Ray")
    ]
    shares = [f"{(seconds[1] - seconds[0]) / (until - since):.1%}" for seconds in spent]
    seen = [one.memory for one in looks if since <= one.at <= until] or [looks[-1].memory]
    sizes = [max(one["driver"] for one in seen), max(sum(one.values()) for one in seen)]
    return [*pauses, *shares, *(f"{size:.0f}" for size in sizes)]


def told(seconds: np.ndarray) -> str:
    if not len(seconds):
        return "-"
    middle, high = np.percentile(seconds * 1000, [50, 99])
    return f"{middle:.0f} ({high:.0f})"


if __name__ == "__main__":
    main()
