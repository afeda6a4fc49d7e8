"""What is trained for the learning curves: data, model, the weights that it starts from, and what is tuned.

As users do, all tasks start from weights that were trained on other pictures, in which there were other
classes (pairs.py): `python benchmarks/search/tasks.py` makes them anew.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datasets
import pairs

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.data.sources import open_sources
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.training.run import train
from tunekit.tuning.plan import Plan, make_plan

HERE = Path(__file__).resolve().parent
START = HERE / "start.pt"
SAME = {"model": "yolo11p.yaml", "batch": 16, "nbs": 16, "lanes": 1, "device": "cpu", "threads": 1}


@dataclass(frozen=True)
class Task:
    data: str
    imgsz: int
    epochs: int


TASKS = {"digits": Task("digits", 96, 12), "trees": Task("trees", 160, 15)}


@functools.cache
def plan_of(name: str) -> Plan:
    """What `tunekit tune` would run: the space is the default one, trial 0 what train's auto chooses."""
    task = TASKS[name]
    if not START.exists():
        raise SystemExit(f"{START} is not there; make it: python benchmarks/search/tasks.py")
    where = {"pretrained": str(START), "data": datasets.for_ours(task.data)}
    args = build_args(TuneArgs, {**SAME, **where, "imgsz": task.imgsz, "epochs": task.epochs})
    sources = open_sources(args)
    return make_plan(args, load_space("default"), len(sources.names), len(sources.train), "cpu", 1)


def make_start() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = pairs.write(Path(folder) / "pairs")
        settings = {"data": str(data), "imgsz": 96, "epochs": 40, "optimizer": "AdamW", "lr0": 0.004}
        where = {"project": folder, "name": "start", "plots": False}
        run = train(build_args(TrainArgs, {**SAME, **settings, **where}))
        shutil.move(run / "weights" / "best.pt", START)


if __name__ == "__main__":
    make_start()
