"""The verbs there are, and the one way to call them: raw settings in, the verb's result out.

The command line and the Python API both end here. A verb's code is imported when it is called, so
knowing the verbs costs nothing. Knows no terminal.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunekit.args import Arguments


@dataclass(frozen=True)
class Verb:
    summary: str
    function: str  # module:name, takes the verb's arguments
    example: str


VERBS = {
    "tune": Verb(
        "search hyperparameters: many trainings compete, the best one is kept",
        "tunekit.tuning.run:tune",
        "tunekit tune data=pets.yaml model=yolo11n.yaml epochs=30 iterations=100",
    ),
    "train": Verb(
        "train one model",
        "tunekit.training.run:train",
        "tunekit train data=pets.yaml cfg=runs/tune/pets/best_hyperparameters.yaml epochs=300",
    ),
    "val": Verb(
        "measure a trained model: precision, recall and mAP",
        "tunekit.evaluation.run:val",
        "tunekit val model=runs/train/pets/weights/best.pt split=test",
    ),
    "status": Verb(
        "show how far a search is, while it runs or afterwards",
        "tunekit.tuning.remote:status",
        "tunekit status run=runs/tune/pets",
    ),
    "stop": Verb(
        "ask a running search to end a trial, or to end",
        "tunekit.tuning.remote:stop",
        "tunekit stop run=runs/tune/pets trial=3",
    ),
    "add": Verb(
        "have a running search try hyperparameters of yours next",
        "tunekit.tuning.remote:add",
        "tunekit add run=runs/tune/pets lr0=0.02 mosaic=0.5",
    ),
    "submit": Verb(
        "run one of the others as a job on a Ray cluster",
        "tunekit.tuning.submit:submit",
        "tunekit submit address=http://head:8265 tune data=/shared/pets.yaml project=/shared/runs/tune",
    ),
}


def call(name: str, settings: Mapping[str, Any]) -> Any:
    """Run a verb with `settings`: names to raw values, `cfg` among them."""
    args = arguments(name, settings)
    module, function = VERBS[name].function.split(":")
    return getattr(importlib.import_module(module), function)(args)


def arguments(name: str, settings: Mapping[str, Any]) -> Arguments:
    """A verb's validated arguments. Raises ArgumentError."""
    from tunekit.cfg import read_cfg
    from tunekit.checks import build_args
    from tunekit.verb_args import ARGUMENTS

    given = {key: value for key, value in settings.items() if key != "cfg"}
    from_file = read_cfg(settings["cfg"]) if "cfg" in settings else {}
    below = {key: entry for key, entry in from_file.items() if key not in given}
    return build_args(
        ARGUMENTS[name],
        {**{key: entry.value for key, entry in below.items()}, **given},
        {key: entry.place for key, entry in below.items()},
    )
