"""Trials an hour: `tunekit tune`, a TorchTrainer in each trial of Ray Tune, and the peer's tuner.

The same model, data, epochs and number of trials, one trial at a time on all cores, with nothing but the
learning rate in the space, so that every trial has the same work. On one worker all three take turns, on two
ours and Ray's pattern: the peer has no such trials on CPU. Beyond training is what a trial takes but for its
epochs, as its own results.csv has them; the first trial also bears the start of everything.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import common
import datasets
from startup import overheads

SIDES = {1: ("ours", "naive", "peer"), 2: ("ours", "naive")}
NAMES = {"ours": "tunekit tune", "naive": "TorchTrainer in each trial", "peer": "ultralytics' tuner"}
LR0 = (1e-4, 1e-2)


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "trials")
    common.add_peer(found)
    found.add_argument("--trials", type=int, default=6)
    found.add_argument("--rounds", type=int, default=2, help="searches of each side")
    found.add_argument("--workers", type=int, nargs="+", choices=SIDES, default=[1, 2])
    found.add_argument("--model", default="yolo11p.yaml")
    found.add_argument("--imgsz", type=int, default=64)
    found.add_argument("--epochs", type=int, default=2)
    found.add_argument("--fraction", type=float, default=0.1)
    return found.parse_args()


@dataclass(frozen=True)
class Search:
    """Seconds: of the whole command, and of each trial, its epochs and the rest."""

    wall: float
    training: list[float]
    overhead: list[float]


def main() -> None:
    options, began = arguments(), common.machine()
    if options.trials < 2:
        raise SystemExit("--trials must be at least 2: the first one and the rest")
    version = common.check_peer(options.peer_python) if 1 in options.workers else ""
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[int, str], list[Search]] = {}
    for workers in options.workers:
        for number in range(options.rounds):
            sides = SIDES[workers]
            for side in sides if number % 2 == 0 else reversed(sides):
                search = SEARCHES[side](options, workers, f"{side}-{workers}-{number}")
                found.setdefault((workers, side), []).append(search)
                rate = 3600 * options.trials / search.wall
                print(f"{side}, {workers} worker(s): {search.wall:.0f} s, {rate:.0f} trials/h", flush=True)
    common.report("Trials an hour", began, summary(options, version, found), options.out)


def work(options: argparse.Namespace) -> dict[str, Any]:
    """What a trial trains, by names that all sides know."""
    names = ("epochs", "imgsz", "fraction")
    fixed = {"batch": 16, "nbs": 16, "optimizer": "AdamW", "seed": 0, "warmup_bias_lr": 0.0}
    return {**{name: getattr(options, name) for name in names}, **fixed}


def ours(options: argparse.Namespace, workers: int, name: str) -> Search:
    from tunekit.search.space import load_space

    space = load_space("default")
    others = [parameter.name for parameter in space.parameters if parameter.name != "lr0"]
    file = options.out.resolve() / "space.yaml"
    file.write_text(space.without(others).to_yaml())
    settings = {
        **work(options),
        "model": options.model,
        "data": "digits",
        "space": file,
        "iterations": options.trials,
        "confirm": 0,
        "sampler": "random",
        "scheduler": "none",
        "concurrent": 1,
        "workers": workers,
        "threads": max(options.threads // workers, 1),
        "device": "cpu",
        "project": options.out,
        "name": name,
        "exist_ok": True,
        **common.parsed(options.ours_set),
    }
    log = options.out / f"{name}.log"
    start, clock = datetime.datetime.now(), time.perf_counter()
    with log.open("w") as words:
        code = subprocess.run(common.tune_command(settings), stdout=words, stderr=words).returncode
    wall = time.perf_counter() - clock
    if code:
        raise SystemExit(f"tunekit tune ended with exit code {code}, see {log}")
    overhead, training = overheads(options.out / name, start)
    return Search(wall, training, overhead)


def naive(options: argparse.Namespace, workers: int, name: str) -> Search:
    folder = options.out.resolve() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    settings = {
        **work(options),
        "model": options.model,
        "data": "digits",
        "device": "cpu",
        "threads": max(options.threads // workers, 1),
        "plots": False,
        **common.parsed(options.ours_set),
    }
    job = {
        "settings": settings,
        "trials": options.trials,
        "workers": workers,
        "lr0": LR0,
        "cores": max(options.threads, workers),
        "folder": str(folder),
    }
    start = time.time()
    result = common.run_ours("ours/naive_trials.py", job, options.out, name)
    return between(start, result["wall"], result["trials"])


def peer(options: argparse.Namespace, workers: int, name: str) -> Search:
    given = [f"name={name}", "workers=0", *options.peer_set]
    data = datasets.for_peer("digits", options.out)
    shared = {**work(options), "iterations": options.trials}
    settings = common.peer_settings(shared, options.out, data, given)
    job = {
        "model": common.model_for_peer(options.model, options.out),
        "settings": settings,
        "space": {"lr0": LR0},
    }
    result = common.run_peer(options.peer_python, "peer/tune.py", job, options.out, name)
    return between(0.0, result["wall"], result["trials"])


SEARCHES = {"ours": ours, "naive": naive, "peer": peer}


def between(start: float, wall: float, trials: list[dict[str, float]]) -> Search:
    """From the trials' ends, on the clock of `start`."""
    ends = [start, *(trial["end"] for trial in trials)]
    training = [trial["training"] for trial in trials]
    overhead = [
        end - before - seconds for before, end, seconds in zip(ends, ends[1:], training, strict=False)
    ]
    return Search(wall, training, overhead)


def summary(
    options: argparse.Namespace, version: str, found: dict[tuple[int, str], list[Search]]
) -> list[str]:
    rows = []
    for (workers, side), searches in found.items():
        later = [seconds for search in searches for seconds in search.overhead[1:]]
        training = statistics.median(seconds for search in searches for seconds in search.training)
        wall = statistics.fmean(search.wall for search in searches)
        first = statistics.median(search.overhead[0] for search in searches)
        rows.append(
            [
                workers,
                NAMES[side],
                f"{wall:.0f}",
                f"{3600 * options.trials / wall:.0f}",
                f"{3600 / (training + statistics.median(later)):.0f}",
                f"{training:.2f}",
                f"{first:.1f}",
                f"{statistics.median(later):.2f} ({min(later):.2f} to {max(later):.2f})",
            ]
        )
    header = [
        "workers a trial",
        "search",
        "whole search, s",
        "trials an hour",
        "the same after the first trial",
        "training a trial, s",
        "first trial beyond training, s",
        "later ones, median (min to max)",
    ]
    what = (
        f"{options.rounds} searches a side of {options.trials} trials, one at a time: {options.model}, "
        f"{options.imgsz} px, {options.epochs} epochs of {options.fraction:.0%} of the digits, "
        f"{options.threads} threads in all" + (f"; ultralytics {version}" if version else "")
    )
    return [what, "", *common.table(header, rows)]


if __name__ == "__main__":
    main()
