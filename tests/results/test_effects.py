"""What mattered and what did not: known effects are found, and wrong claims are as rare as they should be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import rankdata

from tunekit.results.effects import Effect, Tried, effects
from tunekit.search.space import Parameter

WIDTH = 5
SEARCHES = 40


def tried(genes: np.ndarray, has: np.ndarray | None = None) -> list[Tried]:
    has = np.ones(genes.shape, dtype=bool) if has is None else has
    return [
        Tried(Parameter(name=f"p{i}", kind="float", low=0.0, high=1.0, prior=0.5), genes[:, i], has[:, i])
        for i in range(genes.shape[1])
    ]


def verdicts(found: list[Effect]) -> list[str]:
    return [effect.verdict for effect in found]


def hill(gene: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of variance 1 - `share` on a hill of the rest."""
    values = -((gene - 0.5) ** 2)
    spread = np.sqrt(share) / values.std()
    return np.asarray(spread * values + np.sqrt(1 - share) * rng.normal(size=len(gene)))


@pytest.mark.parametrize("share", [0.1, 0.15])
def test_of_one_alone_the_chance_is_that_of_an_f_test(share: float) -> None:
    """Where noise is normal, both ask the same: how often noise fits a parabola so well."""
    rng = np.random.default_rng(3)
    genes = rng.random((40, 1))
    scores = hill(genes[:, 0], share, rng)
    order = rankdata(genes[:, 0])
    fit = np.polynomial.Polynomial.fit(order, scores, 2)(order)
    explained = ((fit - scores.mean()) ** 2).sum() / ((scores - scores.mean()) ** 2).sum()
    expected = f_distribution.sf(explained / 2 / ((1 - explained) / 37), 2, 37)
    assert 0.01 < expected < 0.8, "something between the ends can be compared"
    assert effects(tried(genes), scores, 0)[0].chance == pytest.approx(expected, abs=0.06)


def test_two_that_matter_together_only_are_found() -> None:
    rng = np.random.default_rng(0)
    genes = rng.random((120, WIDTH))
    scores = (genes[:, 1] - 0.5) * (genes[:, 4] - 0.5) + 0.05 * rng.normal(size=120)
    assert verdicts(effects(tried(genes), scores, 0))[1::3] == ["mattered"] * 2


def test_in_noise_one_search_in_twenty_is_wrong() -> None:
    """Seven of forty would be very unlucky: once in three hundred times."""
    wrong = 0
    for seed in range(SEARCHES):
        rng = np.random.default_rng(seed)
        wrong += "mattered" in verdicts(effects(tried(rng.random((40, WIDTH))), rng.normal(size=40), seed))
    assert wrong < 7


def test_what_was_moved_at_the_same_time_as_the_one_that_matters_is_not_blamed() -> None:
    """As samplers do: all go from where they began to where the best is, if it is their merit or not."""
    wrong = np.zeros(WIDTH)
    for seed in range(SEARCHES):
        rng = np.random.default_rng(seed)
        genes = 0.7 * np.linspace(0, 1, 80)[:, None] + 0.3 * rng.random((80, WIDTH))
        scores = 1 - np.exp(-8 * genes[:, 3]) + 0.1 * rng.normal(size=80)  # no parabola
        wrong += [verdict == "mattered" for verdict in verdicts(effects(tried(genes), scores, seed))]
    assert wrong[3] > SEARCHES / 2
    assert wrong[[0, 1, 2, 4]].sum() < 7


def test_an_effect_worth_knowing_is_seldom_denied_and_an_idle_one_often() -> None:
    denied = np.zeros(WIDTH)
    for seed in range(SEARCHES):
        rng = np.random.default_rng(seed)
        genes = rng.random((100, WIDTH))
        found = verdicts(effects(tried(genes), hill(genes[:, 2], 0.1, rng), seed))
        denied += [verdict == "no effect" for verdict in found]
    assert denied[2] < 7
    assert denied[[0, 1, 3, 4]].min() > SEARCHES / 4


def test_a_parameter_is_judged_by_the_trials_that_have_it() -> None:
    """That those which have it are better, whatever its value, is not its merit."""
    rng = np.random.default_rng(0)
    genes, has = rng.random((80, 2)), np.ones((80, 2), dtype=bool)
    has[:40, 1] = False
    better = np.where(has[:, 1], 5.0, 0.0)
    idle = effects(tried(genes, has), better + rng.normal(size=80), 0)
    assert verdicts(idle)[1] != "mattered"
    steep = effects(tried(genes, has), np.where(has[:, 1], genes[:, 1], 0.3) + 0.1 * rng.normal(size=80), 0)
    assert verdicts(steep)[1] == "mattered"


def test_values_that_are_all_the_same_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    genes = rng.random((40, 3))
    genes[:, 1] = 0.2
    has = np.ones((40, 3), dtype=bool)
    has[:, 2] = False
    assert verdicts(effects(tried(genes, has), rng.normal(size=40), 0))[1:] == ["unclear", "unclear"]


def test_all_of_them_may_matter() -> None:
    rng = np.random.default_rng(0)
    genes = rng.random((80, 3))
    scores = genes.sum(axis=1) + 0.01 * rng.normal(size=80)
    assert verdicts(effects(tried(genes), scores, 0)) == ["mattered"] * 3
