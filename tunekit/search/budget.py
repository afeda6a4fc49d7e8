"""What a search may spend before it ends, short of its last trial: trials without a gain, and hours.

In: the scores of the trials that have ended, and a clock. Out: whether it is spent. What follows is the
searcher's business (no new trial begins) and the scheduler's (when the time is up, running trials end after
their epoch). Knows no study and no Ray.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable


class Budget:
    """`stop` trials without a better one, `hours` from now on; None: no limit."""

    def __init__(
        self, stop: int | None, hours: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stop, self._clock = stop, clock
        self.deadline = None if hours is None else clock() + 3600 * hours  # on the clock

    @property
    def time_is_up(self) -> bool:
        return self.deadline is not None and self._clock() >= self.deadline

    def is_stale(self, scores: Iterable[float]) -> bool:
        """Whether none of the last `stop` of `scores`, in the order in which they came, was a new best."""
        return self._stop is not None and since_best(scores) >= self._stop


def since_best(scores: Iterable[float]) -> int:
    """How many scores (larger is better) have come since the best; an equal one is no gain."""
    best, since = -math.inf, 0
    for score in scores:
        best, since = (score, 0) if score > best else (best, since + 1)
    return since
