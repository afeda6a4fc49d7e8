"""Whether foreign weights mean the model that our code built from their layer table.

In: our model without weights, and what a checkpoint stores by name. Every weight must have its place and
every place its weight, and modules must agree in what shapes do not tell (strides, groups, activations,
heads): a model of other rules would load and detect wrongly. Raises Unfit. Reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tunekit.models.blocks import SPPF, Attention, Bottleneck
from tunekit.models.build import DetectionModel
from tunekit.models.heads import DFL
from tunekit.models.permitted import SCALARS, StandIn, StoredTensor

# Attributes, ours and theirs, that must be equal where the weights' shapes are the same whatever they are.
EQUAL = {
    Bottleneck: {"add": "add"},
    SPPF: {"n": "n", "add": "add"},
    Attention: {"heads": "num_heads", "key_dim": "key_dim"},
}
WITHOUT_EFFECT = ("inplace", "momentum", "name", "recompute_scale_factor", "track_running_stats")


class Unfit(Exception):
    """Why a checkpoint is not taken, as the end of a sentence."""


def check_places(ours: DetectionModel, stored: Mapping[str, StoredTensor]) -> None:
    """Every weight has a place of its shape, and every place a weight."""
    places = ours.state_dict()
    lacking = [name for name in places if name not in stored]
    if any(name.endswith(".bn.weight") for name in lacking) and "model.0.conv.bias" in stored:
        raise Unfit(
            "its batch norms are folded away (it was saved after a prediction or for export), so it is "
            "not whole"
        )
    if lacking:
        raise Unfit(
            f"it has no {lacking[0]}, which its layer table needs ({len(lacking)} tensors are missing)"
        )
    without = [name for name in stored if name not in places]
    if without:
        raise Unfit(
            f"its {without[0][:100]!a} has no place in the model of its layer table "
            f"({len(without)} tensors are left over)"
        )
    for name, place in places.items():
        if stored[name].size != tuple(place.shape):
            raise Unfit(
                f"its {name} has the shape {stored[name].size}, but its layer table needs {(*place.shape,)}"
            )
        if stored[name].storage.dtype.is_floating_point != place.is_floating_point():
            raise Unfit(f"its {name} is stored as {stored[name].storage.dtype}")


def check_rules(ours: DetectionModel, theirs: Mapping[str, StandIn]) -> None:
    """Modules at the same place compute the same."""
    for path, module in ours.named_modules():
        if type(module).__module__.startswith("torch.nn.modules.") and not list(module.children()):
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            found = theirs[path].kind if path in theirs else "missing"
            if found != kind:
                raise Unfit(f"its {path} is {found}, where its layer table means {kind}")
        if path in theirs:
            _check_module(path, module, theirs[path].state)


def _check_module(path: str, module: nn.Module, state: Mapping[str, Any]) -> None:
    """Attributes that older versions did not have yet are not asked for."""
    constants = [name for name in getattr(module, "__constants__", ()) if name not in WITHOUT_EFFECT]
    pairs = EQUAL.get(type(module), {name: name for name in constants})
    for name, their_name in pairs.items():
        if their_name in state and not _equal(state[their_name], getattr(module, name)):
            raise Unfit(f"its {path} has another {their_name} than its layer table means")


def _equal(theirs: Any, ours: Any) -> bool:
    """Numbers, words and flat tuples of them; anything else differs."""
    if type(theirs) is tuple:
        return all(type(item) in SCALARS for item in theirs) and theirs == ours
    return type(theirs) in SCALARS and theirs == ours


def check_numbers(ours: DetectionModel, strides: Sequence[float], weights: Mapping[str, Tensor]) -> None:
    """Strides and the bins of distances follow from the table; a file that says otherwise was altered."""
    if list(strides) != list(ours.stride):
        raise Unfit(f"its strides are not {', '.join(map(str, ours.stride))}, as its layer table means")
    if isinstance(ours.head.dfl, DFL):
        bins = weights[f"model.{len(ours.model) - 1}.dfl.conv.weight"]
        if bins.flatten().tolist() != list(range(ours.reg_max)):
            raise Unfit("the fixed bins of its distances (dfl.conv.weight) were altered")
