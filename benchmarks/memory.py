"""How much memory does a tune need at its peak, with one and with two trials at a time?

Adds up the proportional set sizes (PSS: shared pages counted once) of the command's whole process tree,
sampled from /proc several times a second. Linux only. What is outside of processes, such as the page cache
of files that nobody maps, is not counted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import common

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Peak:
    """The highest sum so far, in MB, and each kind's own highest (not all at the same moment)."""

    total: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    samples: int = 0


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "memory")
    found.add_argument("--model", default="yolo11n.yaml")
    found.add_argument("--imgsz", type=int, default=160)
    found.add_argument("--batch", type=int, default=16)
    found.add_argument("--epochs", type=int, default=1)
    found.add_argument("--fraction", type=float, default=1.0)
    found.add_argument("--trials", type=int, default=4, help="trials of each tune")
    found.add_argument("--concurrent", type=int, nargs="+", default=[1, 2])
    found.add_argument("--interval", type=float, default=0.25, help="seconds between samples")
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    if not Path("/proc/self/smaps_rollup").exists():
        raise SystemExit("memory.py needs Linux: it reads /proc/<pid>/smaps_rollup")
    # Processes whose parent ends become our children, not init's, so that the tree stays whole.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    rows = []
    for concurrent in options.concurrent:
        peak, wall = measured(options, concurrent)
        rows.append(
            [
                concurrent,
                *(f"{peak.parts.get(kind, 0.0):.0f}" for kind in KINDS),
                f"{peak.total:.0f}",
                f"{wall:.0f}",
            ]
        )
        print(
            f"{concurrent} at a time: {peak.total:.0f} MB at the peak of {peak.samples} samples", flush=True
        )
    what = (
        f"`tunekit tune`, {options.trials} trials: {options.model}, {options.imgsz} px, "
        f"batch {options.batch}, digits, {options.epochs} epoch(s); PSS of all processes in MB "
        "(2**20 bytes); each kind at its own highest, and the highest sum"
    )
    header = ["trials at a time", *KINDS, "highest sum", "seconds"]
    common.report("Peak memory of a tune", began, [what, "", *common.table(header, rows)], options.out)


def measured(options: argparse.Namespace, concurrent: int) -> tuple[Peak, float]:
    """The peak of a tune with `concurrent` trials at a time, and its seconds."""
    settings = {
        "model": options.model,
        "imgsz": options.imgsz,
        "batch": options.batch,
        "epochs": options.epochs,
        "fraction": options.fraction,
        "iterations": options.trials,
        "confirm": 0,
        "sampler": "random",
        "scheduler": "none",
        "concurrent": concurrent,
        "threads": max(1, options.threads // concurrent),
        "device": "cpu",
        "project": options.out,
        "name": f"tune-{concurrent}",
        "exist_ok": True,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / f"tune-{concurrent}.log"
    peak, start = Peak(), time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(common.tune_command(settings), stdout=file, stderr=file)
        while process.poll() is None:
            sample(peak, process.pid)
            time.sleep(options.interval)
    if process.returncode:
        raise SystemExit(f"the tune ended with exit code {process.returncode}, see {log}")
    return peak, time.perf_counter() - start


KINDS = ("driver", "trials", "Ray")


def sample(peak: Peak, driver: int) -> None:
    """Look at all processes now, and keep what is higher than before."""
    parts: dict[str, float] = defaultdict(float)
    for pid in tree(os.getpid()):
        if pid != os.getpid():
            parts[kind(pid, driver)] += pss(pid)
    peak.samples += 1
    peak.total = max(peak.total, sum(parts.values()))
    for name, size in parts.items():
        peak.parts[name] = max(peak.parts.get(name, 0.0), size)


def kind(pid: int, driver: int) -> str:
    if pid == driver:
        return "driver"
    command = read(pid, "cmdline")
    return "trials" if "TuneTrial" in command else "Ray"


def tree(root: int) -> list[int]:
    """`root` and everything below it."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # The name in parentheses may hold anything, so fields are counted from its end.
            fields = read(int(entry), "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                children[int(fields[1])].append(int(entry))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children[pid]
    return found


def pss(pid: int) -> float:
    """MB; 0 of a process that has just ended."""
    for line in read(pid, "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
