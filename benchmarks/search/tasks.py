"""What is trained for the learning curves: model, image size, the weights that it starts from, what is tuned.

Data are the digits. As users do, all tasks start from weights that were trained on other pictures, in which
there were other classes (pairs.py): `python benchmarks/search/tasks.py digits` makes them anew.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pairs
import torch

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.data.sources import open_sources
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.training.run import train
from tunekit.tuning.plan import Plan, make_plan

HERE = Path(__file__).resolve().parent
SAME = {"batch": 16, "nbs": 16, "lanes": 1, "device": "cpu", "threads": 1}


@dataclass(frozen=True)
class Task:
    model: str
    imgsz: int
    epochs: int
    fraction: float = 1.0  # of the training images

    @property
    def start(self) -> Path:
        return HERE / f"start-{Path(self.model).stem}.pt"

    @property
    def settings(self) -> dict[str, object]:
        return {**SAME, "model": self.model, "imgsz": self.imgsz}


# Another scale of model, 2.6 million weights instead of .8, on a fifth of the images and half of their
# pixels: the best learning rate is lower there, and some augmentation is better than none.
TASKS = {"digits": Task("yolo11p.yaml", 96, 12), "few": Task("yolo11n.yaml", 64, 24, fraction=0.2)}


@functools.cache
def plan_of(name: str) -> Plan:
    """What `tunekit tune` would run: the space is the default one, trial 0 what train's auto chooses."""
    task = TASKS[name]
    if not task.start.exists():
        raise SystemExit(f"{task.start} is not there; make it: python benchmarks/search/tasks.py {name}")
    chosen = {"pretrained": str(task.start), "data": "digits", "epochs": task.epochs}
    chosen["fraction"] = task.fraction
    args = build_args(TuneArgs, {**task.settings, **chosen})
    sources = open_sources(args)
    return make_plan(args, load_space("default"), len(sources.names), len(sources.train), "cpu", 1)


def make_start(task: Task) -> None:
    """In half precision: it is kept with the sources."""
    with tempfile.TemporaryDirectory() as folder:
        data = pairs.write(Path(folder) / "pairs")
        chosen = {"data": str(data), "epochs": 40, "optimizer": "AdamW", "lr0": 0.004}
        where = {"project": folder, "name": "start", "plots": False}
        run = train(build_args(TrainArgs, {**task.settings, **chosen, **where}))
        trained = torch.load(run / "weights" / "best.pt", weights_only=True)
    trained["weights"] = {
        name: value.half() if value.is_floating_point() else value
        for name, value in trained["weights"].items()
    }
    torch.save(trained, task.start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    make_start(TASKS[parser.parse_args().task])


if __name__ == "__main__":
    main()
