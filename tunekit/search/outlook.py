"""What a training that is not over will come to, as trainings that are over tell.

A straight line is laid through these, the best fitness of the whole training over the best by an epoch
(ordinary least squares). The end of another training, given where it is now, then has Student's t
distribution around the line: wider the less the line explains, and the farther the training is from the
others. Pure: knows no search.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtr

FEWEST = 5  # trainings: a line through fewer says little


def chance(value: float, now: np.ndarray, ends: np.ndarray, bar: float) -> float:
    """That what is at `value` ends at `bar` or above, where others that were at `now` (N,) ended at `ends`
    (N,), N at least 3."""
    if value == -math.inf:
        return 0.0
    middle, scale = outlook(value, now, ends)
    # Ties go on, also where rounding is all that is left.
    return float(stdtr(len(now) - 2, (middle - bar + 1e-9) / math.hypot(scale, 1e-10)))


def outlook(value: float, now: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """What becomes of what is at `value`, where others that were at `now` (N,) ended at `ends` (N,), N at
    least 3: the middle and the scale of its distribution."""
    apart = now - now.mean()
    spread = max(float(apart @ apart), 1e-12)
    # Who is ahead now is not behind in the end: of a few alike a line may say so.
    slope = max(float(apart @ ends) / spread, 0.0)
    middle = float(ends.mean()) + slope * (value - float(now.mean()))
    left = ends - ends.mean() - slope * apart
    lever = 1 + 1 / len(now) + (value - float(now.mean())) ** 2 / spread
    return middle, math.sqrt(float(left @ left) / (len(now) - 2) * lever)
