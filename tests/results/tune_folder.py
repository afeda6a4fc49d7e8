"""A small run folder as a tune leaves it, with a real study."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tunekit.args import TrainArgs
from tunekit.search.asking import ask
from tunekit.search.space import Space, load_space

SPACE = """\
lr0: {range: [1.0e-5, 0.1], scale: log, prior: 0.01}
close_mosaic: {range: [0, 20], scale: int, prior: 10}
optimizer: {choice: [SGD, AdamW], prior: SGD}
"""
SPACE_WITH_MODELS = SPACE + "model: {choice: [yolo11n.yaml, yolo11s.yaml]}\n"
COLUMNS = (
    "epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),metrics/recall(B),"
    "metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss,val/cls_loss,val/dfl_loss,lr,seconds,images_per_second"
)


@dataclass
class TuneFolder:
    """Add trials to it in order; the first is the defaults'."""

    path: Path
    study: optuna.Study
    space: Space

    def trial(
        self,
        curve: list[float],
        state: str = "COMPLETE",
        reason: str = "",
        lr0: float = 0.01,
        params: dict[str, Any] | None = None,
        costs: dict[str, float] | None = None,
    ) -> int:
        """A trial with that fitness per epoch, its folder and its line in the study."""
        self.study.enqueue_trial(self.space.completed({"lr0": lr0, **(params or {})}))
        trial = ask(self.study, self.space)
        folder = self.path / "trials" / str(trial.number)
        (folder / "weights").mkdir(parents=True)
        args = TrainArgs(
            **trial.params, epochs=30, seed=7, project=str(self.path), name="a trial", exist_ok=True
        )
        (folder / "args.yaml").write_text(yaml.safe_dump(args.model_dump(), sort_keys=False))
        lines = [COLUMNS]
        for epoch, fitness in enumerate(curve, start=1):
            self.study._storage.set_trial_intermediate_value(trial._trial_id, epoch, fitness)
            lines.append(",".join(map(repr, [epoch, *[fitness] * 14])))
            for name in ("best.pt", "last.pt"):
                (folder / "weights" / name).write_bytes(f"{name} of trial {trial.number}".encode())
        (folder / "results.csv").write_text("\n".join(lines) + "\n")
        if curve:
            best = max(curve)
            metrics = {name: best for name in COLUMNS.split(",") if name.startswith("metrics/")}
            trial.set_user_attr("metrics", metrics)
        trial.set_user_attr("epochs", len(curve))
        trial.set_user_attr("seconds", 1.5 * len(curve))
        if reason:
            trial.set_user_attr("reason", reason)
        if costs:
            trial.set_user_attr("costs", costs)
        if state != "RUNNING":
            values = [max(curve), *(costs or {}).values()] if state == "COMPLETE" else None
            self.study.tell(trial, values, state=TrialState[state])
        return trial.number

    def files(self) -> dict[str, bytes]:
        return {
            os.path.relpath(path, self.path): path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
        }


def confirm(folder: TuneFolder, runs: dict[int, list[float | str | None]], **tests: float) -> None:
    """A confirmation of `folder` with that fitness of each setting, seed by seed from 8 on: a number, the
    state of a run that has none, or None for one that waits. `tests`: on the test split, as run_0=0.5."""
    place = folder.path / "confirm"
    place.mkdir(exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(place / "study.journal")))
    study = optuna.create_study(storage=storage, direction="maximize", study_name="confirm")
    params = {trial.number: trial.params for trial in folder.study.trials}
    for place_of_seed in range(max(map(len, runs.values()))):
        for setting, values in runs.items():
            attributes = {"setting": setting, "seed": 8 + place_of_seed}
            study.enqueue_trial(params[setting], user_attrs=attributes)
            value = values[place_of_seed]
            if value is None:
                continue
            trial = ask(study, folder.space)
            weights = place / "trials" / str(trial.number) / "weights"
            weights.mkdir(parents=True)
            for name in ("best.pt", "last.pt"):
                (weights / name).write_bytes(f"{name} of run {trial.number}".encode())
            trial.set_user_attr("epochs", 3)
            if isinstance(value, float):
                study.tell(trial, value)
            elif value != "RUNNING":
                trial.set_user_attr("reason", "no memory")
                study.tell(trial, state=TrialState[value])
    study.set_user_attr("test", {name.removeprefix("run_"): value for name, value in tests.items()})


def new_tune_folder(path: Path, iterations: int = 10, space: str = SPACE, costs: int = 0) -> TuneFolder:
    """`costs`: objectives beside the fitness."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.mkdir()
    (path / "space.yaml").write_text(SPACE_WITH_MODELS if costs else space)
    (path / "args.yaml").write_text(f"iterations: {iterations}\n")
    storage = JournalStorage(JournalFileBackend(str(path / "study.journal")))
    directions = ["maximize", *["minimize"] * costs]
    study = optuna.create_study(storage=storage, directions=directions, study_name=path.name)
    return TuneFolder(path, study, load_space(str(path / "space.yaml")))


def typical_tune_folder(path: Path) -> TuneFolder:
    """Six trials: the defaults, a better one, a stopped one, a failed one, one as good, one running."""
    folder = new_tune_folder(path)
    folder.trial([0.1, 0.3, 0.4])
    folder.trial([0.2, 0.5, 0.45], lr0=0.02)
    folder.trial([0.05], state="PRUNED", lr0=0.09)
    folder.trial([0.1], state="FAIL", reason="the loss is not finite, at epoch 2", lr0=0.1)
    folder.trial([0.2, 0.3, 0.5], lr0=0.005)
    folder.trial([0.3, 0.6], state="RUNNING", lr0=0.03)
    return folder


def front_folder(path: Path) -> TuneFolder:
    """Fitness against latency, of two models. On the front are trial 3 and, of the small model, trial 2."""
    small, large = {"latency": 5.0}, {"latency": 12.5}
    folder = new_tune_folder(path, costs=1)
    folder.trial([0.1, 0.3], costs=small)
    folder.trial([0.2, 0.35], lr0=0.02, params={"model": "yolo11s.yaml"}, costs=large)
    folder.trial([0.2, 0.4], lr0=0.005, costs=small)
    folder.trial([0.3, 0.5], lr0=0.03, params={"model": "yolo11s.yaml"}, costs=large)
    folder.trial([0.45], state="PRUNED", lr0=0.04, reason="stopped on request")
    folder.trial([0.1], state="FAIL", reason="no memory", lr0=0.09)
    folder.trial([0.9], state="RUNNING", lr0=0.06)
    return folder
