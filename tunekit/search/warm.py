"""What a search takes from earlier ones: their good settings in, a few for the new space out, to try first.

A setting is taken over as far as the new space has its hyperparameters, each at the nearest value that is
allowed; all others are at the defaults. The runs take turns, each with its best that is left, so that one
which misleads does not crowd out the others. What is nearly the defaults, or nearly what is taken already,
would teach nothing new, and is passed over. Any sampler learns from such trials as from all others: where the
earlier searches mislead they cost about that many trials. Knows neither files nor trials' states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunekit.search.genes import to_units
from tunekit.search.parameter import Value
from tunekit.search.space import Space

MOST = 3  # settings in all, or one of each run where there are more of these
APART = 0.1  # of its range at least, in one hyperparameter at least


@dataclass(frozen=True)
class Start:
    """Trial `number` of the search in `run`, with the parameters that it has in a space."""

    run: str
    number: int
    params: Mapping[str, Value]

    @property
    def source(self) -> str:
        return f"trial {self.number} of {self.run}"


def choose(earlier: Sequence[Sequence[Start]], space: Space) -> list[Start]:
    """`earlier`: of each run its good trials, the best first, with the parameters that they had there."""
    most = max(MOST, len(earlier))
    taken = [to_units(space, space.defaults())]
    lines = [_in(space, line) for line in earlier]
    found: list[Start] = []
    while lines and len(found) < most:
        line = lines.pop(0)
        start = next((start for start in line if _is_apart(space, start, taken)), None)
        if start is not None:
            found.append(start)
            taken.append(to_units(space, start.params))
            lines.append(line)
    return found


def _in(space: Space, line: Sequence[Start]) -> Iterator[Start]:
    """The same settings as the space has them."""
    for start in line:
        known = {
            parameter.name: parameter.nearest(start.params[parameter.name])
            for parameter in space.parameters
            if parameter.name in start.params
        }
        yield Start(start.run, start.number, space.completed(known))


def _is_apart(space: Space, start: Start, taken: Sequence[np.ndarray]) -> bool:
    choices = np.array([parameter.kind == "choice" for parameter in space.parameters])
    least = np.where(choices, 1e-6, APART)  # another choice is another setting
    moved = np.abs(np.stack(taken) - to_units(space, start.params))
    return bool((moved >= least).any(axis=1).all())
