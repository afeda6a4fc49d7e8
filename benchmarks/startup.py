"""What does a trial cost beyond its training?

Runs `tunekit tune` with tiny trials, one at a time, and takes the seconds of their epochs away from the time
between one trial's end and the next one's. The first trial bears Python's, Ray's and torch's start.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import statistics
import subprocess
import time
from pathlib import Path

import common


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "startup")
    found.add_argument("--trials", type=int, default=12)
    found.add_argument("--model", default="yolo11p.yaml")
    found.add_argument("--imgsz", type=int, default=64)
    found.add_argument("--epochs", type=int, default=1)
    found.add_argument("--fraction", type=float, default=0.1)
    found.add_argument(
        "--workers", type=int, default=1, help="of each trial; they stay up from trial to trial"
    )
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    if options.trials < 2:
        raise SystemExit("--trials must be at least 2: the first one and the rest")
    settings = {
        "model": options.model,
        "imgsz": options.imgsz,
        "epochs": options.epochs,
        "fraction": options.fraction,
        "iterations": options.trials,
        "confirm": 0,
        "sampler": "random",
        "scheduler": "none",
        "concurrent": 1,
        "workers": options.workers,
        "threads": max(options.threads // options.workers, 1),
        "device": "cpu",
        "project": options.out,
        "name": "tune",
        "exist_ok": True,
    }
    log = options.out / "tune.log"
    options.out.mkdir(parents=True, exist_ok=True)
    start, clock = datetime.datetime.now(), time.perf_counter()
    with log.open("w") as file:
        code = subprocess.run(common.tune_command(settings), stdout=file, stderr=file).returncode
    wall = time.perf_counter() - clock
    if code:
        raise SystemExit(f"the tune ended with exit code {code}, see {log}")
    overhead, training = overheads(options.out / "tune", start)
    common.report("Start-up cost of a trial", began, summary(options, overhead, training, wall), options.out)


def overheads(run: Path, start: datetime.datetime) -> tuple[list[float], list[float]]:
    """Seconds beyond training, and of training, of each trial in the order of their ends."""
    before, overhead, training = start, [], []
    for trial in common.study_trials(run):
        with (run / "trials" / str(trial.number) / "results.csv").open(newline="") as file:
            epochs = sum(float(row["seconds"]) for row in csv.DictReader(file))
        overhead.append((trial.datetime_complete - before).total_seconds() - epochs)
        training.append(epochs)
        before = trial.datetime_complete
    return overhead, training


def summary(
    options: argparse.Namespace, overhead: list[float], training: list[float], wall: float
) -> list[str]:
    first, rest = overhead[0], overhead[1:]
    what = (
        f"`tunekit tune`, {options.trials} trials one at a time, {options.workers} worker(s) each: "
        f"{options.model}, {options.imgsz} px, {options.epochs} epoch(s) of {options.fraction:.0%} of the "
        "digits; seconds beyond the epochs themselves"
    )
    header = ["first trial (Python, Ray and torch start)", "later trials, median", "min", "max"]
    row = [f"{value:.2f}" for value in (first, statistics.median(rest), min(rest), max(rest))]
    share = f"{statistics.median(training):.2f} s of training a trial"
    return [
        what,
        "",
        *common.table(header, [row]),
        "",
        f"- {share}; {wall:.1f} s from the command to its end",
    ]


if __name__ == "__main__":
    main()
