"""Weights of a checkpoint into a model: all that fit, and the outputs of classes that both know.

In: a model with fresh weights and a Checkpoint. Out: how much was taken over. A tensor fits when its name and
shape agree; the last convolutions of the class branches have a row for each class, and rows go by the
classes' names. What does not fit keeps its fresh weights. Reads no file and draws no random numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from tunekit.models.build import DetectionModel
from tunekit.models.checkpoint import Checkpoint

# Of a branch's parts only the last one is a bare convolution, whose weights lie directly below the number.
CLASS_OUTPUT = re.compile(r"model\.\d+\.(?:one2one_)?cv3\.\d+\.\d+\.(?:weight|bias)")
CLASS_BRANCH = re.compile(r"model\.\d+\.(?:one2one_)?cv3\.")


@dataclass(frozen=True)
class Transfer:
    """What a model took from a checkpoint."""

    total: int  # tensors of the model
    loaded: int  # ... that came whole from the checkpoint
    fresh: tuple[str, ...]  # ... that did not
    same_classes: bool
    known: tuple[str, ...]  # where classes differ: those whose outputs came over by name


def transfer(model: DetectionModel, checkpoint: Checkpoint) -> Transfer:
    """Copy what fits into `model`."""
    rows = _rows(model.names, checkpoint.names)
    same = list(map(_plain, model.names)) == list(map(_plain, checkpoint.names))
    fresh, moved = [], False
    state = model.state_dict()
    with torch.no_grad():
        for name, place in state.items():
            output = CLASS_OUTPUT.fullmatch(name) and not same
            if _fits(name, state, checkpoint.weights) and not output:
                place.copy_(checkpoint.weights[name])
                continue
            fresh.append(name)
            if output and rows and _same_inputs(name, state, checkpoint.weights):
                new, old = (list(numbers) for numbers in zip(*rows, strict=True))
                place[new] = checkpoint.weights[name][old]
                moved = True
    known = tuple(model.names[new] for new, _ in rows) if moved else ()
    return Transfer(len(state), len(state) - len(fresh), tuple(fresh), same, known)


def _fits(name: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """A norm's count of batches is a single number everywhere: it belongs to the norm's statistics."""
    alike = (name, name.replace(".num_batches_tracked", ".running_mean"))
    return all(one in theirs and ours[one].shape == theirs[one].shape for one in alike)


def _rows(ours: tuple[str, ...], theirs: tuple[str, ...]) -> list[tuple[int, int]]:
    """(number in ours, number in theirs) of the classes of one name; of two alike the first."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(theirs):
        numbers.setdefault(_plain(name), number)
    return [(number, numbers[_plain(name)]) for number, name in enumerate(ours) if _plain(name) in numbers]


def _plain(name: str) -> str:
    return name.strip().casefold()


def _same_inputs(name: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Whether both convolutions read the same features: a bias of other features means nothing."""
    weight = f"{name.rpartition('.')[0]}.weight"
    return name in theirs and weight in theirs and ours[weight].shape[1:] == theirs[weight].shape[1:]
