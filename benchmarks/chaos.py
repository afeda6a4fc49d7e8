"""Does a search lose anything when its processes are killed? A real cluster of two nodes, a kill every few s.

A search of deterministic trials runs once undisturbed, and then once for each seed while something is killed
at random times: a process that trains, a whole node (which comes back), or the driver (after which the search
is resumed). Shown for each seed: the kills, and whether every trial is in the final table once, whether every
learning curve is the undisturbed one's to the last bit, and so the best trial, too.

Nodes are processes of this machine; `unshare` gives the second one Ray files of its own where it is allowed.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import common

sys.path.insert(0, str(common.HERE.parent))
from tests.processes import descendants
from tests.tuning.nodes import ENVIRONMENT, Cluster, running_cluster

TIMES = ("time", "seconds", "images_per_second")
TRAINING = ("ray::TuneTrial", "ray::ResourceTrainable", "ray::RayTrainWorker")


@dataclass
class Outcome:
    """One search: its table, its curves, and what was done to it."""

    table: list[dict[str, str]]
    curves: dict[str, list[dict[str, str]]]
    seconds: float
    kills: list[str] = field(default_factory=list)


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "chaos")
    found.add_argument("--seeds", type=int, default=20)
    found.add_argument("--first-seed", type=int, default=0)
    found.add_argument("--trials", type=int, default=40)
    found.add_argument("--epochs", type=int, default=10)
    found.add_argument("--workers", type=int, default=1, help="of each trial")
    found.add_argument("--every", type=float, default=12.0, help="seconds between kills, in the mean")
    found.add_argument("--limit", type=float, default=3600.0, help="seconds a search may take")
    return found.parse_args()


def command(options: argparse.Namespace, cluster: Cluster, name: str, resume: bool) -> list[str]:
    tune = [sys.executable, "-m", "tunekit", "tune"]
    if resume:
        return [*tune, f"resume=runs/tune/{name}", f"address={cluster.address}"]
    return [
        *tune,
        *(f"address={cluster.address}", f"name={name}", f"workers={options.workers}"),
        *(f"iterations={options.trials}", f"epochs={options.epochs}", "confirm=0"),
        *("warmup_epochs=0", "space=quick"),
        *("model=yolo11p.yaml", "imgsz=64", "fraction=0.05", "batch=8", "threads=1", "lanes=1"),
        *("sampler=random", "scheduler=none"),  # so that no trial depends on another one's time
    ]


def start(words: list[str], place: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            words,
            cwd=place,
            stdout=file,
            stderr=file,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,
        )


def training_processes(cluster: Cluster) -> list[int]:
    """Those of the cluster's nodes that train now."""
    found = descendants(node.pid for node in cluster.nodes)
    return [pid for pid, title in found.items() if title.startswith(TRAINING)]


def search(options: argparse.Namespace, place: Path, name: str, seed: int | None) -> Outcome:
    """One search to its end; with a seed it is disturbed."""
    chance, kills = random.Random(seed), []
    began = time.monotonic()
    log = place / f"{name}.log"
    with running_cluster(1, 1) as cluster:
        driver = start(command(options, cluster, name, resume=False), place, log)
        run = place / "runs" / "tune" / name
        while driver.poll() is None:
            if time.monotonic() - began > options.limit:
                os.killpg(driver.pid, signal.SIGKILL)
                raise SystemExit(f"{name} does not end: {log.read_text()[-2000:]}")
            if seed is None or not (run / "trials").exists():
                time.sleep(0.2)
                continue
            time.sleep(chance.uniform(0.2, 1.8) * options.every)
            what = chance.choices(("process", "node", "driver"), weights=(6, 2, 2))[0]
            if driver.poll() is not None:
                break
            if what == "process" and (running := training_processes(cluster)):
                os.kill(chance.choice(running), signal.SIGKILL)
            elif what == "node":
                cluster.end(cluster.nodes[-1])
                cluster.add(1)
            elif what == "driver":
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
                driver = start(command(options, cluster, name, resume=True), place, log)
            else:
                continue
            kills.append(what)
        if driver.returncode != 0:
            raise SystemExit(f"{name} ended with {driver.returncode}: {log.read_text()[-2000:]}")
    curves = {
        path.parent.name: [
            {column: value for column, value in row.items() if column not in TIMES} for row in rows(path)
        ]
        for path in run.glob("trials/*/results.csv")
    }
    return Outcome(rows(run / "tune_results.csv"), curves, time.monotonic() - began, kills)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def judged(options: argparse.Namespace, found: Outcome, calm: Outcome) -> list[str]:
    numbers = [int(row["trial"]) for row in found.table]
    states = [row["state"] for row in found.table]
    wrong = [number for number in calm.curves if found.curves.get(number) != calm.curves[number]]
    best = [max(one.table, key=lambda row: float(row["fitness"] or 0))["trial"] for one in (found, calm)]
    counts = ", ".join(f"{found.kills.count(what)} {what}" for what in ("process", "node", "driver"))
    return [
        f"{len(found.kills)} ({counts})",
        "yes" if numbers == list(range(options.trials)) else f"no: {numbers}",
        str(states.count("COMPLETE")),
        "yes" if not wrong else f"no: trials {', '.join(wrong)}",
        "yes" if best[0] == best[1] else f"no: {best[0]}, not {best[1]}",
        f"{found.seconds:.0f}",
    ]


def main() -> None:
    options, began = arguments(), common.machine()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        place = Path(folder)
        calm = search(options, place, "calm", None)
        print(f"undisturbed: {calm.seconds:.0f} s", flush=True)
        lines = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            line = [str(seed), *judged(options, search(options, place, f"seed{seed}", seed), calm)]
            print(" | ".join(line), flush=True)
            lines.append(line)
    header = ["seed", "kills", "every trial once", "complete", "curves equal", "same best", "s"]
    text = [
        f"{options.trials} trials of {options.epochs} epochs on {options.workers} worker(s), two nodes of a "
        f"core, a kill every {options.every:g} s in the mean; undisturbed: {calm.seconds:.0f} s",
        "",
        *common.table(header, lines),
    ]
    common.report("Chaos: kills while a search runs", began, text, options.out)


if __name__ == "__main__":
    main()
