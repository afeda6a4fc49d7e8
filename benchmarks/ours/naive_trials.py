"""Trials as Ray's guide has them, with tunekit's trainer inside: a job file in, a result file out.

    python naive_trials.py JOB.json RESULT.json

A function trainable of Ray Tune that calls `TorchTrainer(...).fit()` in each trial, one trial at a time. Job:
settings (arguments of `tunekit train`), trials, workers (of each), lr0 (range), cores, folder. Result: a row
a trial, in order: end (seconds since 1970) and training (seconds of its epochs).
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback


def loop(config: dict[str, Any]) -> None:
    """A worker's part of one trial."""
    from tunekit.args import TrainArgs
    from tunekit.checks import build_args
    from tunekit.training.engine import Engine
    from tunekit.training.ranks import Ranks
    from tunekit.training.session import run_session

    context = ray.train.get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    args = build_args(TrainArgs, config["settings"])
    with closing(Engine(args, ranks)) as engine:
        run_session(
            engine,
            Path(config["folder"]),
            resume=False,
            say=print,
            on_epoch=lambda result: ray.train.report({"fitness": result.fitness}),
        )


def trial(config: dict[str, Any], job: dict[str, Any]) -> None:
    """What Tune calls for each trial."""
    number = tune.get_context().get_trial_id().rpartition("_")[2]
    folder = Path(job["folder"]) / "trials" / number
    settings = {**job["settings"], "lr0": config["lr0"], "workers": job["workers"]}
    TorchTrainer(
        loop,
        train_loop_config={"settings": settings, "folder": str(folder)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=job["workers"], resources_per_worker={"CPU": job["cores"] // job["workers"]}
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{number}", storage_path=job["folder"], callbacks=[TuneReportCallback()]
        ),
    ).fit()
    with (folder / "results.csv").open(newline="") as file:
        training = sum(float(row["seconds"]) for row in csv.DictReader(file))
    with (Path(job["folder"]) / "ends.jsonl").open("a") as file:
        file.write(json.dumps({"end": time.time(), "training": training}) + "\n")


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    ray.init(address="local", num_cpus=job["cores"], include_dashboard=False)
    nothing = {"cpu": 0, "memory": 1}  # the trial's actor only waits; its workers compute
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, job=job), nothing),
        param_space={"lr0": tune.loguniform(*job["lr0"])},
        tune_config=tune.TuneConfig(num_samples=job["trials"], max_concurrent_trials=1),
        run_config=tune.RunConfig(name="tune", storage_path=job["folder"], verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    rows = [json.loads(line) for line in (Path(job["folder"]) / "ends.jsonl").read_text().splitlines()]
    ray.shutdown()
    Path(sys.argv[2]).write_text(json.dumps({"trials": rows}))


if __name__ == "__main__":
    main()
