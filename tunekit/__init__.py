"""tunekit: finds the hyperparameters that train a YOLO detector best.

The Python API is the command line's: `tune`, `train` and `val` are functions that take the verb's
arguments by name (`tunekit tune --help` lists them) and `cfg=`, a YAML file of arguments underneath.
Importing tunekit is cheap: a verb's code, torch and Ray are loaded when the verb is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.evaluation.metrics import DetectionMetrics
    from tunekit.results.run import Run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "train", "tune", "val"]


def tune(**arguments: Any) -> Run:
    """Search hyperparameters: many trainings compete, the best one is kept.

    Returns the run, which reads everything the search left in its folder.

    >>> run = tunekit.tune(data="digits", iterations=50, epochs=30)  # doctest: +SKIP
    >>> run.best_hyperparameters  # doctest: +SKIP
    >>> run = tunekit.tune(resume="runs/tune/digits")  # go on where it stopped  # doctest: +SKIP
    """
    from tunekit.verbs import call

    result: Run = call("tune", arguments)
    return result


def train(**arguments: Any) -> Path:
    """Train one model; returns the run folder with `weights/best.pt` and `results.csv`.

    >>> tunekit.train(data="pets.yaml", epochs=50, lr0=0.02)  # doctest: +SKIP
    >>> tunekit.train(cfg="runs/tune/pets/best_hyperparameters.yaml", epochs=300)  # doctest: +SKIP
    """
    from tunekit.verbs import call

    folder: Path = call("train", arguments)
    return folder


def val(**arguments: Any) -> DetectionMetrics:
    """Measure a trained model: precision, recall and mAP, over all classes and for each.

    >>> tunekit.val(model="runs/train/pets/weights/best.pt", split="test").map  # doctest: +SKIP
    """
    from tunekit.verbs import call

    metrics: DetectionMetrics = call("val", arguments)
    return metrics


def __getattr__(name: str) -> Any:
    if name == "Run":
        from tunekit.results.run import Run

        return Run
    raise AttributeError(f"module 'tunekit' has no attribute '{name}'")
