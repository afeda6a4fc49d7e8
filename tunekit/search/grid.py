"""A grid as an Optuna sampler: the space's ranges in steps, every combination once.

`steps` values of each range, evenly from end to end in the parameter's scale; all of a choice; of whole
numbers at most as many as there are. The next point is the first of the order that no trial of the study has:
what was tried before, by hand or as the defaults, is not tried again, and a resumed search goes on.

The order is a seeded one whose every beginning covers the space: after n points each value of a parameter has
had its turn, n / (its values) times, rounded down or up. Where conditions decide which parameters there are,
there is a grid for each combination of what they depend on, and these take turns, each with its share. Knows
nothing of Ray or YOLO.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from itertools import islice, product
from typing import Any

import numpy as np
from optuna.study import Study

from tunekit.errors import ArgumentError
from tunekit.search.hyperband import assignment
from tunekit.search.parameter import Parameter, Value
from tunekit.search.space import Space
from tunekit.search.whole import WholeSampler

STEPS = 3

Point = tuple[Value | None, ...]
"""A value of each parameter; None where it has none, as its condition is not met."""


class GridSampler(WholeSampler):
    """Proposes through `asking.ask`, as long as `left`."""

    def __init__(self, space: Space, seed: int, steps: int = STEPS) -> None:
        super().__init__(space, seed)
        self._steps = steps
        self._names = [parameter.name for parameter in space.parameters]
        self._values = {parameter.name: values(parameter, steps) for parameter in space.parameters}

    @property
    def trials(self) -> int:
        """How many it takes: its points, and the defaults where they are none of these."""
        among = all(prior in self._values[name] for name, prior in self._space.defaults().items())
        return sum(map(self._size, self._branches)) + (not among)

    def check_room(self, iterations: int) -> None:
        """ArgumentError if it takes more trials than there are."""
        if self.trials <= iterations:
            return
        sizes = " x ".join(str(len(self._values[name])) for name in self._names[:4])
        sizes += " x ..." if len(self._names) > 4 else ""
        sizes += ", less where conditions are not met:" if self._space.is_conditional else ""
        raise ArgumentError(
            f"sampler=grid would need iterations={self.trials} ({sizes} values of {len(self._names)} "
            f"hyperparameters, and the defaults), not {iterations}: search fewer of them (with a space of "
            "your own, or by giving the others values)"
            + (f", take fewer than steps={self._steps}" if self._steps > 2 else "")
            + ", or use another sampler"
        )

    def left(self, study: Study) -> int:
        """Points that no trial of `study` has, nor will have."""
        taken = self._taken(study)
        return sum(point not in taken for point in self._order)

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        taken = self._taken(study)
        point = next((point for point in self._order if point not in taken), None)
        if point is None:
            raise LookupError("the grid is used up")
        return {name: value for name, value in zip(self._names, point, strict=True) if value is not None}

    def _taken(self, study: Study) -> set[Point]:
        """Those that wait in the study have their parameters for later."""
        known = (
            trial.params or trial.system_attrs.get("fixed_params", {})
            for trial in study.get_trials(deepcopy=False)
        )
        return {tuple(map(params.get, self._names)) for params in known if params}

    @cached_property
    def _branches(self) -> list[dict[str, Value]]:
        """The combinations of what conditions depend on; a single empty one where there are none."""
        parents = {parent for parameter in self._space.parameters for parent, _ in parameter.when}
        names = [name for name in self._names if name in parents]
        found = []
        for combination in product(*(self._values[name] for name in names)):
            params = self._space.completed(dict(zip(names, combination, strict=True)))
            branch = {name: params[name] for name in names if name in params}
            if branch not in found:
                found.append(branch)
        return found

    def _free(self, branch: dict[str, Value]) -> list[str]:
        """The other parameters that its points have."""
        return [name for name in self._space.completed(branch) if name not in branch]

    def _size(self, branch: dict[str, Value]) -> int:
        return math.prod(len(self._values[name]) for name in self._free(branch))

    @cached_property
    def _order(self) -> tuple[Point, ...]:
        rng = np.random.default_rng(self._seed)
        grids = [self._points(branch, rng) for branch in self._branches]
        sizes = [self._size(branch) for branch in self._branches]
        return tuple(next(grids[branch]) for branch in islice(assignment(sizes), sum(sizes)))

    def _points(self, branch: dict[str, Value], rng: np.random.Generator) -> Iterator[Point]:
        """All of a branch."""
        names = self._free(branch)
        known = [self._values[name] for name in names]
        mixed = [[options[place] for place in rng.permutation(len(options))] for options in known]
        for places in even_order([len(options) for options in mixed], rng):
            free = (options[place] for options, place in zip(mixed, places, strict=True))
            point = {**branch, **dict(zip(names, free, strict=True))}
            yield tuple(map(point.get, self._names))


def values(parameter: Parameter, steps: int) -> list[Value]:
    """What the grid has of a parameter, each once."""
    if parameter.kind == "choice":
        return list(parameter.choices)
    units = np.linspace(0.0, 1.0, steps)
    if parameter.kind == "int" and parameter.high - parameter.low + 1 <= steps:
        return list(range(int(parameter.low), int(parameter.high) + 1))
    return list(dict.fromkeys(parameter.from_unit(float(unit)) for unit in units))


def even_order(sizes: list[int], rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
    """All places of a grid of these sizes.

    Diagonals: a step goes one on in every direction, round the ends, so in lcm(sizes) steps, when it is back,
    each direction has had all its places equally often. The next diagonal begins at a random place that none
    went through.
    """
    length = math.lcm(*sizes)
    seen = np.zeros(sizes, dtype=bool)
    for start in rng.permutation(seen.size):
        first = np.unravel_index(start, sizes)
        if seen[first]:
            continue
        for step in range(length):
            places = tuple((int(place) + step) % size for place, size in zip(first, sizes, strict=True))
            seen[places] = True
            yield places
