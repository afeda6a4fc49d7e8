"""Layers that keep their weights: a model and args.freeze in, the batch norms that keep their statistics out.

Layers are the rows of the model's table, counted from 0; names are paths below them, as in state dicts:
`22.cv2` is the box branch of row 22. Knows nothing of optimizers.
"""

from __future__ import annotations

import difflib

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tunekit.errors import ArgumentError
from tunekit.models.build import DetectionModel
from tunekit.models.heads import DFL


def frozen_modules(
    model: DetectionModel, freeze: int | tuple[int | str, ...] | None
) -> tuple[nn.Module, ...]:
    """Let the layers that `freeze` names require no gradients; returns their batch norms.

    Those are to stay in eval mode while the rest trains: their running statistics are weights, too. Raises
    ArgumentError for layers that are not there, where nothing would be frozen, and where all would be.
    """
    for module in model.modules():
        if isinstance(module, DFL):  # its weights are the numbers 0, 1, 2 ...
            module.requires_grad_(False)
    paths = _paths(model, freeze)
    if not paths:
        return ()
    named = [(path, parameter) for path, parameter in model.model.named_parameters() if _below(path, paths)]
    if not named:
        raise ArgumentError(
            f"freeze={_shown(freeze)} freezes nothing, as it names no weights: {_known(model)}"
        )
    for _, parameter in named:
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ArgumentError(
            f"freeze={_shown(freeze)} leaves nothing to train: {_known(model)}, the last one being the head"
        )
    return tuple(
        module
        for path, module in model.model.named_modules()
        if isinstance(module, _BatchNorm) and _below(path, paths)
    )


def _paths(model: DetectionModel, freeze: int | tuple[int | str, ...] | None) -> tuple[str, ...]:
    """What to freeze, as paths in `model.model`."""
    count = len(model.model)
    if freeze is None:
        return ()
    if isinstance(freeze, int):
        if not 0 <= freeze <= count:
            raise ArgumentError(f"freeze={freeze}: the number of first layers to freeze; {_known(model)}")
        return tuple(str(layer) for layer in range(freeze))
    paths = []
    for layer in freeze:
        path = str(layer).removeprefix("model.")
        if path not in _all_paths(model):
            raise ArgumentError(
                f"freeze={_shown(freeze)}: there is no {layer}; {_known(model)}{_hint(model, path)}"
            )
        paths.append(path)
    return tuple(paths)


def _below(path: str, paths: tuple[str, ...]) -> bool:
    return any(path == above or path.startswith(f"{above}.") for above in paths)


def _all_paths(model: DetectionModel) -> list[str]:
    modules = [path for path, _ in model.model.named_modules() if path]
    return modules + [path for path, _ in model.model.named_parameters()]


def _hint(model: DetectionModel, path: str) -> str:
    near = difflib.get_close_matches(path, _all_paths(model), n=1, cutoff=0.6)
    return f". Did you mean {near[0]}?" if near else ""


def _known(model: DetectionModel) -> str:
    count = len(model.model)
    return f"{model.spec.name} has {count} layers, 0 to {count - 1}"


def _shown(freeze: int | tuple[int | str, ...] | None) -> str:
    return ",".join(map(str, freeze)) if isinstance(freeze, tuple) else str(freeze)
