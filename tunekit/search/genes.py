"""A setting as a point in the unit cube: a gene in [0, 1] of each parameter, even in that parameter's scale.

All samplers that choose a whole setting at once work on genes, and take the parameters of a trial from them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tunekit.search.space import Space, Value


def to_units(space: Space, params: Mapping[str, Value]) -> np.ndarray:
    """(D,) genes; a value that `params` lacks counts as the prior (of an older space's trial, or where a
    condition is not met), one that is outside as the nearest."""
    return np.array([p.to_unit(p.nearest(params.get(p.name, p.prior))) for p in space.parameters])


def from_units(space: Space, genes: np.ndarray) -> dict[str, Value]:
    """The parameters of a trial with these genes (D,): those whose condition is not met are none of it."""
    values = {p.name: p.from_unit(float(gene)) for p, gene in zip(space.parameters, genes, strict=True)}
    return space.completed(values)


def without_idle(space: Space, genes: np.ndarray) -> np.ndarray:
    """(D,) `genes`, but those that mean nothing, as a condition is not met, at the prior, as `to_units` has
    them: who differ in nothing else are the same."""
    if not space.is_conditional:
        return genes
    params = from_units(space, genes)
    prior = to_units(space, {})
    return np.where([p.name in params for p in space.parameters], genes, prior)


def reflect(genes: np.ndarray) -> np.ndarray:
    """Folded back into [0, 1] at its ends; clipping would heap up proposals there."""
    folded = np.abs(genes) % 2.0
    return np.where(folded > 1.0, 2.0 - folded, folded)


def is_taken(genes: np.ndarray, taken: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether some row of `taken` (N, D) is the same as `genes` (D,) but for `tolerance` in every gene."""
    return bool((np.abs(taken - genes) <= tolerance).all(axis=1).any()) if len(taken) else False
