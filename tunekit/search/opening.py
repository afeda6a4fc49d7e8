"""What `sampler=auto` tries right after the defaults, while there is nothing to learn from yet.

A training hangs on its learning rate first (Bengio, arXiv 1206.5533, section 3.1.1), and how strongly its
pictures are augmented can be searched as one number (RandAugment, arXiv 1909.13719). The defaults of both
suit long trainings on many pictures; who tunes has few, or trains for a short time, and then a higher rate
is the likelier surprise, and augmentation may help or harm. So these two are moved on purpose, each rate with
another strength, where chance would move some of two dozen. Nothing of this is believed: they are trials like
others, and the model goes by what they come to.
"""

from __future__ import annotations

import numpy as np

from tunekit.args import tunable_names
from tunekit.search.genes import reflect, to_units
from tunekit.search.space import Space, Value

# How far lr0 goes up, as a share of its range (in the default one: 4 times, 16 times), and what is left of
# the augmentations' defaults.
MOVES = ((0.2, 1.0), (0.2, 0.0), (0.4, 0.5))


def opening(space: Space) -> list[np.ndarray]:
    """(D,) genes of the settings to try first, at most three; none where `space` has nothing of the sort."""
    found = [to_units(space, space.defaults())]
    for rise, strength in MOVES:
        genes = _risen(space, to_units(space, _weakened(space, strength)), rise)
        if not any(np.array_equal(genes, other) for other in found):
            found.append(genes)
    return found[1:]


def _weakened(space: Space, strength: float) -> dict[str, Value]:
    """The defaults with `strength` times their augmentations, as far as ranges allow."""
    params = space.defaults()
    names = tunable_names("augmentation")
    for parameter in space.parameters:
        if parameter.name in params and parameter.name in names and parameter.kind == "float":
            params[parameter.name] = parameter.nearest(strength * float(params[parameter.name]))
    return params


def _risen(space: Space, genes: np.ndarray, rise: float) -> np.ndarray:
    """With another lr0: higher, or where that is beyond its range, as far back from the end."""
    risen = [p.name == "lr0" and p.kind == "float" and p.name in space.defaults() for p in space.parameters]
    return np.where(risen, reflect(genes + rise), genes)
