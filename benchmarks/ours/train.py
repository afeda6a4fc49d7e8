"""One training of tunekit, in a process of its own: a job file in, a result file out.

    python train.py JOB.json RESULT.json

Job: settings (arguments of `tunekit train`), val_repeats. Result: as the peer's worker writes it:
parameters, a row an epoch (epoch, images_per_second of the training loop alone, losses and metrics), and the
images/s of `val_repeats` validations after a first one that is not counted.
"""

from __future__ import annotations

import json
import statistics
import sys
from contextlib import closing
from pathlib import Path

from tunekit import __version__
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.evaluation.validator import evaluate
from tunekit.training.engine import Engine


def validation_rate(engine: Engine, repeats: int) -> float:
    """Images/s, the median after one that warms up."""
    rates = []
    for _ in range(repeats + 1):
        found = evaluate(
            engine.average.model, engine.val_loader, device=engine.device, amp_dtype=engine.amp_dtype
        )
        rates.append(found.images / found.seconds)
    return statistics.median(rates[1:])


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    with closing(Engine(build_args(TrainArgs, job["settings"]))) as engine:
        epochs = []
        for result in engine.epochs():
            told = {name: value for name, value in result.row().items() if "/" in name}
            epochs.append({"epoch": result.epoch, "images_per_second": result.images_per_second, **told})
        outcome = {
            "version": __version__,
            "parameters": sum(parameter.numel() for parameter in engine.model.parameters()),
            "epochs": epochs,
            "val_images_per_second": validation_rate(engine, job["val_repeats"])
            if job["val_repeats"]
            else None,
            "precision": str(engine.amp_dtype or "float32").removeprefix("torch."),
        }
    Path(sys.argv[2]).write_text(json.dumps(outcome))


if __name__ == "__main__":
    main()
