"""A Gaussian process over settings: what trainings came to in, beliefs about others out.

The score y of a training with genes x (D,) is taken to be

    y = c + g(x) + noise

with g what trainings with x come to in the mean over seeds, which is what is asked about: a Gaussian process
with a Matern-5/2 kernel with a length a gene. Where a score is a forecast, its doubt is added to the noise.
Lengths and variances are those most probable given the rows and priors. Pure: knows no study.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

SQRT5 = math.sqrt(5.0)
JITTER = 1e-8
STEPS = 60  # of the search for the most probable lengths


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known, a row a training. `values` are of mean about 0 and deviation about 1."""

    genes: np.ndarray  # (N, D) in [0, 1]; of a choice the number of the option, from 0
    values: np.ndarray  # (N,)
    doubt: np.ndarray  # (N,) variance of a value that is not yet what it will come to; else 0


@dataclass(frozen=True)
class Lengths:
    """The logarithms of what is fitted."""

    weights: np.ndarray  # (D,) of the squared differences of genes: 1 / length²
    height: float  # variance of g
    noise: float


class GaussianProcess:
    """What `rows` tell, with `lengths` as they are or, where left out, fitted. `choices`: (D,) bool, genes of
    which only 'the same or another' counts."""

    def __init__(self, rows: Rows, choices: np.ndarray, lengths: Lengths | None = None) -> None:
        self._rows, self._choices = rows, choices
        self.lengths = lengths or fit(rows, choices)
        covariance, *_ = _covariance(rows, _squares(rows.genes, rows.genes, choices), self.lengths)
        self._lower = cholesky(covariance, lower=True)
        self._solved = cho_solve((self._lower, True), rows.values)

    def whole(self, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M,) mean and (M,) deviation of what trainings with `genes` (M, D) come to, luck apart."""
        cross = self._cross(genes)
        mean = cross @ self._solved
        half = solve_triangular(self._lower, cross.T, lower=True)
        variance = math.exp(self.lengths.height) + 1.0 - np.square(half).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def _cross(self, genes: np.ndarray) -> np.ndarray:
        """(M, N) covariances with the rows."""
        squares = _squares(genes, self._rows.genes, self._choices)
        kernel, _ = _matern(np.tensordot(np.exp(self.lengths.weights), squares, 1))
        return np.asarray(math.exp(self.lengths.height) * kernel + 1.0)

    def with_pending(self, genes: np.ndarray) -> GaussianProcess:
        """As if trainings with `genes` (M, D) had come to what is expected of them: they are no news, but
        what they will tell need not be asked again."""
        rows = self._rows
        more = Rows(
            np.concatenate([rows.genes, genes]),
            np.concatenate([rows.values, self.whole(genes)[0]]),
            np.concatenate([rows.doubt, np.zeros(len(genes))]),
        )
        return GaussianProcess(more, self._choices, self.lengths)


def fit(rows: Rows, choices: np.ndarray) -> Lengths:
    """The most probable lengths and variances."""
    squares = _squares(rows.genes, rows.genes, choices)
    width = len(choices)
    prior = _Prior.of(width)
    found = minimize(
        _loss,
        prior.mean,
        (rows, squares, prior),
        method="L-BFGS-B",
        jac=True,
        bounds=prior.bounds,
        options={"maxiter": STEPS},
    )
    return _unpacked(found.x)


@dataclass(frozen=True, eq=False)
class _Prior:
    """Normal, of the logarithms; `bounds` keep the search from where nothing is learnt any more."""

    mean: np.ndarray
    deviation: np.ndarray
    bounds: list[tuple[float, float]]

    @staticmethod
    def of(width: int) -> _Prior:
        """Lengths grow with the square root of the number of genes, so that the distance of two settings
        means the same whatever their number (Hvarfner et al., arXiv 2402.02229)."""
        mean = np.array([3.0 - math.log(width)] * width + [0.0, -3.5])
        deviation = np.array([1.75] * width + [1.0, 1.5])
        bounds = [(-12.0, 5.0)] * width + [(-4.0, 3.0), (-9.0, 1.0)]
        return _Prior(mean, deviation, bounds)


def _unpacked(packed: np.ndarray) -> Lengths:
    return Lengths(packed[:-2], *map(float, packed[-2:]))


def _loss(packed: np.ndarray, rows: Rows, squares: np.ndarray, prior: _Prior) -> tuple[float, np.ndarray]:
    """-log of the posterior density, up to a constant, and its gradient."""
    lengths = _unpacked(packed)
    covariance, kernel, slope = _covariance(rows, squares, lengths)
    lower = cholesky(covariance, lower=True)
    solved = cho_solve((lower, True), rows.values)
    inverse = cho_solve((lower, True), np.eye(len(rows.values)))
    away = (packed - prior.mean) / prior.deviation
    loss = 0.5 * rows.values @ solved + np.log(np.diag(lower)).sum() + 0.5 * away @ away
    pull = 0.5 * (inverse - np.outer(solved, solved))  # d loss / d covariance
    height = math.exp(lengths.height)
    gradient = np.concatenate(
        [
            np.exp(lengths.weights) * (squares.reshape(len(squares), -1) @ (pull * slope * height).ravel()),
            [height * (pull * kernel).sum(), math.exp(lengths.noise) * np.trace(pull)],
        ]
    )
    return float(loss), gradient + away / prior.deviation


def _covariance(
    rows: Rows, squares: np.ndarray, lengths: Lengths
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, N) of the rows, and the kernel and its slope that it is made of."""
    kernel, slope = _matern(np.tensordot(np.exp(lengths.weights), squares, 1))
    covariance = 1.0 + math.exp(lengths.height) * kernel
    covariance[np.diag_indices_from(covariance)] += math.exp(lengths.noise) + rows.doubt + JITTER
    return covariance, kernel, slope


def _squares(one: np.ndarray, other: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """(D, M, N) squared differences by gene; of a choice 1 where they differ."""
    apart = one.T[:, :, None] - other.T[:, None, :]
    return np.where(choices[:, None, None], (apart != 0).astype(float), np.square(apart))


def _matern(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matern-5/2 of squared distances, and its derivative by them."""
    root = SQRT5 * np.sqrt(np.maximum(squared, 0.0))
    decay = np.exp(-root)
    return (1 + root + root**2 / 3) * decay, -5 / 6 * (1 + root) * decay
