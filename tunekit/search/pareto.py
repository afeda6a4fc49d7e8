"""Which of several are best when there are several objectives: vectors of worth in (larger is better), the
undominated out. Numbers only."""

from __future__ import annotations

import numpy as np


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether `one` (M,) is nowhere worse than `other` and somewhere better."""
    return bool((one >= other).all() and (one > other).any())


def undominated(worth: np.ndarray) -> np.ndarray:
    """(N,) bool: the rows of `worth` (N, M) that no other row dominates. Of equal rows all are."""
    beaten = [((worth >= row).all(axis=1) & (worth > row).any(axis=1)).any() for row in worth]
    return ~np.array(beaten, dtype=bool)
