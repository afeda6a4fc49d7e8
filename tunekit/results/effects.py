"""Which hyperparameters mattered and which had no effect, by permutation tests of a search's scores.

In: the genes tried of each parameter, and the trials' scores (N,), in the order of the search. Out: an
`Effect` a parameter. How important one is beside another, and what the scores are, is said elsewhere
(importance.py).

A parameter's own effect is a parabola over the order of its values, or a level for each choice; what two do
together are the products of these, less what either does alone. What such a term explains of the scores is
compared with what it explains of shuffled ones:
  - "mattered": it explains more, alone or with another parameter, than any of them does of shuffled scores,
    but for LEVEL of the shuffles (half of that for what is alone, half for pairs). A search in which nothing
    matters is thus said to have a parameter that does about once in twenty times. The clearest is taken
    away, whatever its shape, and the rest judged again, on scores of which only what is left is shuffled
    (Freedman and Lane 1983; by the highest of all: Westfall and Young 1993), until nothing is found. One that
    explains nearly everything would hide the others otherwise; and those that the sampler moved at the same
    time as it would seem to matter, too. For that reason the trend of the scores over the search is taken
    away before anything is judged.
  - "no effect": alone it explains less than a hill nearly always would (but for LEVEL) that explains a tenth
    of what is left, and no pair of its may be an effect. So one that has such an effect, over the values that
    were tried, is said to have none about once in twenty times.
  - "unclear": neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from tunekit.search.space import Parameter

LEVEL = 0.05  # of wrong claims
DRAWS = 399  # of shuffled scores
PLANTED = 0.1  # of the variance: an effect that is worth knowing
THOROUGH = 5  # degree of what is taken away of a parameter that was found
SUSPECT = 0.2  # chance of a pair that may be an effect

Verdict = Literal["mattered", "no effect", "unclear"]


@dataclass(frozen=True)
class Effect:
    """Of one hyperparameter."""

    verdict: Verdict
    chance: float  # that shuffled scores show as much in some parameter


@dataclass(frozen=True)
class Tried:
    """The values of one parameter that trials had."""

    parameter: Parameter
    genes: np.ndarray  # (N,)
    has: np.ndarray  # (N,) whether the trial has the parameter at all: else its gene says nothing

    @property
    def options(self) -> np.ndarray:
        """(N,) the place of each choice among all."""
        count = len(self.parameter.choices)
        return np.minimum(self.genes * count, count - 1).astype(int)


class _Terms:
    """What may be found: each term is some orthonormal columns (N, c) of mean 0, and has its parameters."""

    def __init__(self, terms: Sequence[np.ndarray], members: Sequence[Sequence[int]]) -> None:
        self.terms = terms
        self.members = np.array(members)  # (T, 1 or 2)
        self._transposed = np.hstack(terms).T
        self._starts = np.cumsum([0, *(term.shape[1] for term in terms[:-1])])

    def shares(self, scores: np.ndarray) -> np.ndarray:
        """(T, K) how much of scores (N, K) each term explains."""
        squares = np.add.reduceat((self._transposed @ scores) ** 2, self._starts, axis=0)
        return np.asarray(squares / np.maximum((scores**2).sum(axis=0), 1e-12))


def effects(tried: Sequence[Tried], scores: np.ndarray, seed: int) -> list[Effect]:
    """One a parameter; larger scores are better, but that is not asked."""
    count, width = len(scores), len(tried)
    alone = [_alone(one) for one in tried]
    families = [_Terms(alone, [[index] for index in range(width)])]
    if width > 1:
        two = list(combinations(range(width), 2))
        families.append(_Terms([_together(alone[one], alone[other]) for one, other in two], two))
    # The same in every round: new ones would give a chance more to what was nearly found.
    rng = np.random.default_rng((seed, 1))
    orders = np.stack([rng.permutation(count) for _ in range(DRAWS)], axis=1)
    mattered, chance = np.zeros(width, dtype=bool), np.ones(width)
    known, searched = _trend(count), [np.ones(len(terms.terms), dtype=bool) for terms in families]
    found = True
    while found:
        rest = _without(known, scores[:, None])
        shuffled = _without(known, rest[orders, 0])
        found, now = False, np.ones(width)
        for terms, left in zip(families, searched, strict=True):
            height, heights = _heights(terms.shares(rest)[:, 0], terms.shares(shuffled))
            likely = len(families) * _chances(height, heights, left)
            for members in terms.members.T:
                np.minimum.at(now, members, likely)
            clearest = int(np.argmax(np.where(left, height, -math.inf)))
            if likely[clearest] <= LEVEL:
                found, left[clearest] = True, False
                its = [_alone(tried[member], THOROUGH) for member in terms.members[clearest]]
                known = _orthonormal(np.hstack((known, terms.terms[clearest], *its)))
                break
        chance = np.where(mattered, chance, now)
        if found:
            mattered[terms.members[clearest]] = True
    verdicts: list[Verdict] = [
        "mattered" if mattered[index] else "no effect" if idle else "unclear"
        for index, idle in enumerate(_no_effect(tried, families, known, rest, shuffled, rng))
    ]
    return [Effect(verdict, float(p)) for verdict, p in zip(verdicts, chance, strict=True)]


def _mean(count: int) -> np.ndarray:
    return np.full((count, 1), 1 / math.sqrt(count))


def _trend(count: int) -> np.ndarray:
    """(N, 2) the mean, and a line over the search."""
    return _orthonormal(np.stack((np.ones(count), np.linspace(-1, 1, count)), axis=1))


def _alone(tried: Tried, degree: int = 2) -> np.ndarray:
    """(N, c) powers of the order, or a level for each choice; 0 where the trial has not the parameter."""
    has = tried.has
    if tried.parameter.kind == "choice":
        columns = np.eye(len(tried.parameter.choices))[tried.options]
    else:
        order = np.zeros(len(has))
        order[has] = rankdata(tried.genes[has]) / max(has.sum(), 1) - 0.5
        columns = np.stack([order**power for power in range(1, degree + 1)], axis=1)
    return _orthonormal(_within(columns, has))


def _within(columns: np.ndarray, has: np.ndarray) -> np.ndarray:
    """`columns` (N, c) less their means over trials that have the parameter, 0 in the others."""
    return np.where(has[:, None], columns - columns[has].mean(axis=0), 0.0) if has.any() else columns * 0.0


def _together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N, c) what two do together, less what either does alone."""
    count = len(one)
    products = (one[:, :, None] * other[:, None, :]).reshape(count, -1) * math.sqrt(count)
    return _orthonormal(_without(_orthonormal(np.hstack((_mean(count), one, other))), products))


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """A base of what the columns span; a column of zeros where that is nothing."""
    base, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    kept = base[:, sizes > 1e-6]
    return kept if kept.size else np.zeros((len(columns), 1))


def _without(known: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.asarray(scores - known @ (known.T @ scores))


def _heights(real: np.ndarray, shuffled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares (T,) and (T, K) in standard deviations of what shuffles give."""
    centre, spread = shuffled.mean(axis=1), np.maximum(shuffled.std(axis=1), 1e-9)
    return (real - centre) / spread, (shuffled - centre[:, None]) / spread[:, None]


def _chances(height: np.ndarray, heights: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(T,) how often the highest of shuffled ones (T, K) is as high as each `among` them; of others 1."""
    chances = np.ones(len(height))
    if among.any():
        reached = heights[among].max(axis=0) >= height[among, None]
        chances[among] = (1 + reached.sum(axis=1)) / (1 + reached.shape[1])
    return chances


def _no_effect(
    tried: Sequence[Tried],
    families: Sequence[_Terms],
    known: np.ndarray,
    rest: np.ndarray,
    shuffled: np.ndarray,
    rng: np.random.Generator,
) -> list[bool]:
    """Whether each parameter is below what planted effects reach, and is in no pair that may be one."""
    own, draws = families[0], shuffled.shape[1]
    shares = own.shares(rest)[:, 0]
    below = []
    for index, one in enumerate(tried):
        hills = _without(known, _within(_hills(one, draws, rng), one.has))
        hills *= rest.std() / np.maximum(hills.std(axis=0), 1e-9)
        planted = math.sqrt(1 - PLANTED) * shuffled + math.sqrt(PLANTED) * hills
        reached = _Terms([own.terms[index]], [[0]]).shares(planted)[0]
        below.append(bool(shares[index] < np.quantile(reached, LEVEL)))
    for pairs in families[1:]:
        height, heights = _heights(pairs.shares(rest)[:, 0], pairs.shares(shuffled))
        for index in range(len(tried)):
            its = (pairs.members == index).any(axis=1)
            as_high = heights[its].max(axis=0) >= height[its].max()
            below[index] &= bool(as_high.mean() > SUSPECT)
    return below


def _hills(tried: Tried, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(N, draws) effects of a parameter: parabolas with their peaks anywhere, or any levels."""
    if tried.parameter.kind == "choice":
        return rng.normal(size=(len(tried.parameter.choices), draws))[tried.options]
    return np.asarray(-((tried.genes[:, None] - rng.random(draws)) ** 2))
