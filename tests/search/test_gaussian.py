"""The model against a slow, obvious version of its formula, and in what it is meant to tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunekit.search.gaussian import GaussianProcess, Lengths, Rows, fit

WIDTH = 3
LENGTHS = Lengths(np.log([4.0, 1.0, 0.25]), *np.log([1.2, 0.6, 0.05, 0.02]).tolist(), tilt=-0.4)
NUMBERS = np.zeros(WIDTH, dtype=bool)


def some_rows(count: int = 12, seed: int = 0) -> Rows:
    """Trainings of two rows each, one of them early."""
    rng = np.random.default_rng(seed)
    genes = rng.random((count // 2, WIDTH)).repeat(2, axis=0)
    progress = np.where(np.arange(count) % 2 == 0, 0.3, 1.0)
    return Rows(genes, progress, np.arange(count) // 2, rng.normal(size=count))


def covariance(one: np.ndarray, t: float, other: np.ndarray, u: float, lengths: Lengths) -> float:
    """Of two rows of different trainings, term by term as the module's docstring has them."""
    distance = math.sqrt(
        sum(math.exp(w) * (a - b) ** 2 for w, a, b in zip(lengths.weights, one, other, strict=True))
    )
    root = math.sqrt(5) * distance
    kernel = (1 + root + 5 * distance**2 / 3) * math.exp(-root)
    g = (1 + lengths.tilt * (1 - t)) * (1 + lengths.tilt * (1 - u)) * math.exp(lengths.final)
    h = (1 - t) * (1 - u) * math.exp(lengths.early)
    return 1 + 100 * (1 - t) * (1 - u) + (g + h) * kernel


def test_beliefs_are_those_of_the_formula():
    rows = some_rows()
    at = np.array([0.2, 0.7, 0.4])
    count = len(rows.values)
    matrix = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            matrix[i, j] = covariance(
                rows.genes[i], rows.progress[i], rows.genes[j], rows.progress[j], LENGTHS
            )
            matrix[i, j] += math.exp(LENGTHS.luck) * (rows.trainings[i] == rows.trainings[j])
            matrix[i, j] += math.exp(LENGTHS.noise) * (i == j)
    cross = np.array([covariance(at, 1.0, rows.genes[i], rows.progress[i], LENGTHS) for i in range(count)])
    mean = cross @ np.linalg.solve(matrix, rows.values)
    variance = covariance(at, 1.0, at, 1.0, LENGTHS) - cross @ np.linalg.solve(matrix, cross)

    found_mean, found_deviation = GaussianProcess(rows, NUMBERS, LENGTHS).whole(at[None])
    assert found_mean[0] == pytest.approx(mean, rel=1e-5)
    assert found_deviation[0] == pytest.approx(math.sqrt(variance), rel=1e-5)


def test_of_choices_only_whether_they_are_the_same_counts():
    rows = some_rows()
    choices = np.array([False, True, False])
    rows.genes[:, 1] = np.arange(12) // 2 % 3
    renamed = Rows(rows.genes.copy(), rows.progress, rows.trainings, rows.values)
    renamed.genes[:, 1] = np.array([7.0, 2.0, 4.0])[rows.genes[:, 1].astype(int)]
    at, at_renamed = np.array([[0.2, 1.0, 0.4]]), np.array([[0.2, 2.0, 0.4]])
    one = GaussianProcess(rows, choices, LENGTHS).whole(at)
    other = GaussianProcess(renamed, choices, LENGTHS).whole(at_renamed)
    assert np.allclose(one, other)


def test_genes_that_matter_are_told_from_those_that_do_not():
    rng = np.random.default_rng(3)
    genes = rng.random((60, 8))
    values = 2 * np.sin(3 * genes[:, 2]) + genes[:, 5] + rng.normal(0, 0.05, 60)
    rows = Rows(genes, np.ones(60), np.arange(60), (values - values.mean()) / values.std())
    weights = fit(rows, np.zeros(8, dtype=bool)).weights
    assert set(np.argsort(-weights)[:2]) == {2, 5}


def test_half_a_training_tells_of_the_whole_but_less_than_all_of_it():
    at = np.array([[0.5, 0.5, 0.5]])

    def told(progress: float) -> tuple[float, float]:
        genes = np.concatenate([some_rows().genes, at])
        rows = some_rows()
        values = np.append(rows.values, 3.0)
        more = Rows(genes, np.append(rows.progress, progress), np.append(rows.trainings, 99), values)
        mean, deviation = GaussianProcess(more, NUMBERS, LENGTHS).whole(at)
        return float(mean[0]), float(deviation[0])

    nothing = GaussianProcess(some_rows(), NUMBERS, LENGTHS).whole(at)
    half, whole = told(0.5), told(1.0)
    assert min(half[0], whole[0]) > nothing[0][0] + 0.5
    assert nothing[1][0] > half[1] > whole[1]


def test_many_rows_of_one_training_are_less_than_as_many_trainings():
    at = np.array([0.5, 0.5, 0.5])

    def deviation(trainings: list[int]) -> float:
        rows = Rows(np.tile(at, (6, 1)), np.ones(6), np.array(trainings), np.zeros(6))
        return float(GaussianProcess(rows, NUMBERS, LENGTHS).whole(at[None])[1][0])

    assert deviation([0] * 6) > 1.3 * deviation([0, 1, 2, 3, 4, 5])


def test_what_is_pending_is_no_news_but_need_not_be_asked_again():
    model = GaussianProcess(some_rows(), NUMBERS, LENGTHS)
    pending, far = np.array([[0.1, 0.9, 0.1]]), np.array([[0.9, 0.1, 0.9]])
    asked = model.with_pending(pending)
    for genes in (pending, far):
        assert np.allclose(asked.whole(genes)[0], model.whole(genes)[0], atol=1e-6)
    assert asked.whole(pending)[1][0] < 0.7 * model.whole(pending)[1][0]
    assert asked.whole(far)[1][0] <= model.whole(far)[1][0] + 1e-9
