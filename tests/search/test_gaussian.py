"""The model against a slow, obvious version of its formula, and in what it is meant to tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunekit.search.gaussian import GaussianProcess, Lengths, Rows, fit

WIDTH = 3
LENGTHS = Lengths(np.log([4.0, 1.0, 0.25]), *np.log([1.2, 0.05]).tolist())
NUMBERS = np.zeros(WIDTH, dtype=bool)


def some_rows(count: int = 12, seed: int = 0) -> Rows:
    """Of every second one it is not sure yet what it comes to."""
    rng = np.random.default_rng(seed)
    doubt = np.where(np.arange(count) % 2 == 0, 0.3, 0.0)
    return Rows(rng.random((count, WIDTH)), rng.normal(size=count), doubt)


def with_one_more(at: np.ndarray, value: float, doubt: float) -> Rows:
    rows = some_rows()
    genes = np.concatenate([rows.genes, at])
    return Rows(genes, np.append(rows.values, value), np.append(rows.doubt, doubt))


def covariance(one: np.ndarray, other: np.ndarray, lengths: Lengths) -> float:
    """Of two trainings, term by term as the module's docstring has them."""
    distance = math.sqrt(
        sum(math.exp(w) * (a - b) ** 2 for w, a, b in zip(lengths.weights, one, other, strict=True))
    )
    root = math.sqrt(5) * distance
    kernel = (1 + root + 5 * distance**2 / 3) * math.exp(-root)
    return 1 + math.exp(lengths.height) * kernel


def test_beliefs_are_those_of_the_formula():
    rows = some_rows()
    at = np.array([0.2, 0.7, 0.4])
    count = len(rows.values)
    matrix = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            matrix[i, j] = covariance(rows.genes[i], rows.genes[j], LENGTHS)
            matrix[i, j] += (math.exp(LENGTHS.noise) + rows.doubt[i]) * (i == j)
    cross = np.array([covariance(at, rows.genes[i], LENGTHS) for i in range(count)])
    mean = cross @ np.linalg.solve(matrix, rows.values)
    variance = covariance(at, at, LENGTHS) - cross @ np.linalg.solve(matrix, cross)

    found_mean, found_deviation = GaussianProcess(rows, NUMBERS, LENGTHS).whole(at[None])
    assert found_mean[0] == pytest.approx(mean, rel=1e-5)
    assert found_deviation[0] == pytest.approx(math.sqrt(variance), rel=1e-5)


def test_of_choices_only_whether_they_are_the_same_counts():
    rows = some_rows()
    choices = np.array([False, True, False])
    rows.genes[:, 1] = np.arange(12) // 2 % 3
    renamed = Rows(rows.genes.copy(), rows.values, rows.doubt)
    renamed.genes[:, 1] = np.array([7.0, 2.0, 4.0])[rows.genes[:, 1].astype(int)]
    at, at_renamed = np.array([[0.2, 1.0, 0.4]]), np.array([[0.2, 2.0, 0.4]])
    one = GaussianProcess(rows, choices, LENGTHS).whole(at)
    other = GaussianProcess(renamed, choices, LENGTHS).whole(at_renamed)
    assert np.allclose(one, other)


def test_genes_that_matter_are_told_from_those_that_do_not():
    rng = np.random.default_rng(3)
    genes = rng.random((60, 8))
    values = 2 * np.sin(3 * genes[:, 2]) + genes[:, 5] + rng.normal(0, 0.05, 60)
    rows = Rows(genes, (values - values.mean()) / values.std(), np.zeros(60))
    weights = fit(rows, np.zeros(8, dtype=bool)).weights
    assert set(np.argsort(-weights)[:2]) == {2, 5}


def test_the_most_probable_lengths_are_at_the_bottom_of_the_slope():
    """Of the posterior written down once more: a step in any direction is not better."""
    rng = np.random.default_rng(4)
    genes = rng.random((30, WIDTH))
    rows = Rows(genes, np.sin(4 * genes[:, 0]) + rng.normal(0, 0.1, 30), rng.uniform(0, 0.1, 30))

    def loss(place: np.ndarray) -> float:
        lengths = Lengths(place[:WIDTH], float(place[-2]), float(place[-1]))
        matrix = np.array([[covariance(one, other, lengths) for other in genes] for one in genes])
        matrix += np.diag(math.exp(lengths.noise) + rows.doubt)
        prior = np.append(np.full(WIDTH, 3 - math.log(WIDTH)), [0.0, -3.5])
        away = (place - prior) / np.append(np.full(WIDTH, 1.75), [1.0, 1.5])
        solved = np.linalg.solve(matrix, rows.values)
        return float(0.5 * rows.values @ solved + 0.5 * np.linalg.slogdet(matrix)[1] + 0.5 * away @ away)

    found = fit(rows, NUMBERS)
    best = np.append(found.weights, [found.height, found.noise])
    for direction in np.eye(WIDTH + 2):
        assert loss(best) < min(loss(best + 0.3 * direction), loss(best - 0.3 * direction))


def test_what_is_foretold_says_something_and_less_the_more_doubt_there_is():
    at = np.array([[0.5, 0.5, 0.5]])
    nothing = GaussianProcess(some_rows(), NUMBERS, LENGTHS).whole(at)
    foretold, whole = (
        GaussianProcess(with_one_more(at, 3.0, doubt), NUMBERS, LENGTHS).whole(at) for doubt in (0.5, 0.0)
    )
    assert whole[0][0] > foretold[0][0] + 0.1 > nothing[0][0] + 0.3
    assert nothing[1][0] > foretold[1][0] > whole[1][0]


def test_what_is_pending_is_no_news_but_need_not_be_asked_again():
    model = GaussianProcess(some_rows(), NUMBERS, LENGTHS)
    pending, far = np.array([[0.1, 0.9, 0.1]]), np.array([[0.9, 0.1, 0.9]])
    asked = model.with_pending(pending)
    for genes in (pending, far):
        assert np.allclose(asked.whole(genes)[0], model.whole(genes)[0], atol=1e-6)
    assert asked.whole(pending)[1][0] < 0.7 * model.whole(pending)[1][0]
    assert asked.whole(far)[1][0] <= model.whole(far)[1][0] + 1e-9
