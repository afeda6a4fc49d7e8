"""Samplers against each other on synthetic 26-parameter functions: which finds better settings?

The functions imitate a tuning of YOLO: the shipped default space, scores like mAP (0.8 at the optimum,
about 0.55 for the defaults), seed noise of a point, learning curves of 12 epochs, defaults that are
good but not the optimum. Every method gets the defaults as its first trial. Printed is the simple regret
as a share of the defaults' own: 1 means 'no better than the defaults', 0 'the optimum', of the trial
that a user would pick (the best observed), by its true value.

    python benchmarks/search_synthetic.py --seeds 20

Methods: the three shipped samplers; `peer`, our re-implementation of Ultralytics' newest tuner from a
description of it (sequential, never stops a trial). `8+asha` runs eight trials at a time in simulated
time, with asha; `epochs` is the share of all trials' epochs that it trained.

What this cannot show: the functions are smooth in the space's own scales, which all methods are given
here, the peer too; how real trainings behave is measured by real trainings.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tunekit.search.asha import Asha, default_grace, rungs
from tunekit.search.samplers import SAMPLERS
from tunekit.search.space import Space, load_space

EPOCHS = 12
NOISE = 0.008  # standard deviation of the score over training seeds
TOP = 0.8


@dataclass(frozen=True)
class Problem:
    """True score of genes (D,), at most TOP."""

    score: Callable[[np.ndarray], float]


def _optimum(prior: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Off the prior by up to 0.35 of each range."""
    moved = np.abs(prior + rng.uniform(-0.35, 0.35, len(prior)))
    return np.where(moved > 1, 2 - moved, moved)


def _scaled(cost: Callable[[np.ndarray], float], prior: np.ndarray) -> Problem:
    """exp(-cost), with the cost scaled so that the defaults come to 0.55."""
    unit = math.log(TOP / 0.55) / cost(prior)
    return Problem(lambda genes: TOP * math.exp(-unit * cost(genes)))


def bowl(prior: np.ndarray, rng: np.random.Generator) -> Problem:
    """All parameters matter alike: the hardest for few trials."""
    best = _optimum(prior, rng)
    return _scaled(lambda genes: float(((genes - best) ** 2).sum()), prior)


def few_matter(prior: np.ndarray, rng: np.random.Generator) -> Problem:
    """Importance falls off a thousandfold, in random order: as measured importances of networks do."""
    best = _optimum(prior, rng)
    importance = rng.permutation(np.logspace(0, -3, len(prior)))
    return _scaled(lambda genes: float((importance * (genes - best) ** 2).sum()), prior)


def valley(prior: np.ndarray, rng: np.random.Generator) -> Problem:
    """Parameters that must change together (as lr0, momentum and weight_decay do): a rotated ellipsoid."""
    best = _optimum(prior, rng)
    rotation, _ = np.linalg.qr(rng.normal(size=(len(prior), len(prior))))
    axes = rotation * np.sqrt(np.logspace(0, -3, len(prior)))[:, None]
    return _scaled(lambda genes: float(((axes @ (genes - best)) ** 2).sum()), prior)


def edges(prior: np.ndarray, rng: np.random.Generator) -> Problem:
    """Half of the parameters are best where they are by default, most of those off at 0; cost grows linearly;
    beyond a cliff (a learning rate too high) next to nothing is learnt."""
    best = _optimum(prior, rng)
    best = np.where(rng.random(len(prior)) < 0.5, prior, best)
    importance = rng.permutation(np.logspace(0, -2, len(prior)))
    cliff = int(rng.integers(len(prior)))
    height = max(best[cliff], prior[cliff]) + 0.15

    def cost(genes: np.ndarray) -> float:
        lost = float((importance * np.abs(genes - best)).sum())
        return lost + (20.0 * importance.sum() * (genes[cliff] - height) if genes[cliff] > height else 0.0)

    return _scaled(cost, prior)


def two_basins(prior: np.ndarray, rng: np.random.Generator) -> Problem:
    """The defaults lie in a basin that ends at 0.68; the better one starts 0.3 off in six parameters."""
    importance = rng.permutation(np.logspace(0, -2, len(prior)))
    near = _optimum(prior, rng)
    far = near.copy()
    moved = rng.permutation(len(prior))[:6]
    far[moved] = np.where(prior[moved] > 0.5, prior[moved] - 0.45, prior[moved] + 0.45)
    scale = math.log(0.68 / 0.55) / float((importance * (prior - near) ** 2).sum())

    def score(genes: np.ndarray) -> float:
        near_score = 0.68 * math.exp(-scale * float((importance * (genes - near) ** 2).sum()))
        return max(near_score, TOP * math.exp(-scale * float((importance * (genes - far) ** 2).sum())))

    return Problem(score)


PROBLEMS = {f.__name__: f for f in (bowl, few_matter, valley, edges, two_basins)}


class PeerSampler(BaseSampler):
    """Ultralytics' tuner of August 2026 on, from a description, but on genes in our space's scales (its own
    are linear; compared here is the search, not the space): one parent of the top 9 by fitness, about half
    of the genes moved, step 0.20 that falls to 0.16 after 25 trials without a gain, from 30 trials on in
    40% of proposals the covariance of the best 20% (at most 30), 10% of moved genes uniform, reflection."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        rng = np.random.default_rng((self._seed, trial.number))
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        names = [p.name for p in self._space.parameters]
        genes = np.array([[p.to_unit(t.params[p.name]) for p in self._space.parameters] for t in done])
        fitness = np.array([t.value for t in done])
        order = np.argsort(-fitness)
        top = order[:9]
        share = fitness[top] - fitness[top].min() + 1e-6
        parent = genes[rng.choice(top, p=share / share.sum())]
        stale = len(done) - 1 - int(np.argmax(fitness))
        sigma = 0.20 if stale < 25 else 0.16
        chosen = rng.random(len(names)) < 0.5
        if not chosen.any():
            chosen[rng.integers(len(names))] = True
        if len(done) >= 30 and rng.random() < 0.4:
            elites = genes[order[: min(30, max(3, len(done) // 5))]]
            covariance = np.cov(elites.T) * 0.8**2 + np.eye(len(names)) * (sigma / 4) ** 2
            step = rng.multivariate_normal(np.zeros(len(names)), covariance)
        else:
            step = rng.normal(0, sigma, len(names))
        moved = np.abs(parent + np.where(chosen, step, 0.0)) % 2
        moved = np.where(moved > 1, 2 - moved, moved)
        anywhere = chosen & (rng.random(len(names)) < 0.1)
        moved = np.where(anywhere, rng.random(len(names)), moved)
        return {
            p.name: p.from_unit(float(unit)) for p, unit in zip(self._space.parameters, moved, strict=True)
        }

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise LookupError(param_name)


@dataclass(frozen=True)
class Search:
    """What one search came to: regret after each finished trial (the defaults' is 1), epochs a trial."""

    regret: np.ndarray
    epochs: float


def search(
    sampler: BaseSampler, space: Space, problem: Problem, trials: int, seed: int, slots: int, asha: bool
) -> Search:
    """`trials` trials, `slots` at a time, in simulated time (a trial's speed differs by its settings)."""
    rng = np.random.default_rng((seed, 1))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(space.defaults())
    bar = Asha(rungs(EPOCHS, default_grace(EPOCHS, 3), 3) if asha else (), 3)
    events: list[tuple[float, int]] = []
    running: dict[int, tuple[optuna.Trial, float, np.ndarray, int]] = {}
    truths: dict[int, float] = {}
    picked: list[float] = []
    used, now = 0, 0.0

    def start() -> None:
        trial = study.ask(space.distributions())
        genes = np.array([p.to_unit(trial.params[p.name]) for p in space.parameters])
        truths[trial.number] = problem.score(genes)
        final = truths[trial.number] + rng.normal(0, NOISE)
        # A curve that comes near its end value by then, some sooner than others: early ranks mislead a bit.
        pace = rng.uniform(2.0, 5.0)
        curve = final * (1 - np.exp(-np.arange(1, EPOCHS + 1) / pace)) / (1 - math.exp(-EPOCHS / pace))
        speed = rng.uniform(0.8, 1.25)
        running[trial.number] = (trial, speed, curve, 0)
        heapq.heappush(events, (now + speed, trial.number))

    asked = 0
    while asked < slots and asked < trials:
        start()
        asked += 1
    while events:
        now, number = heapq.heappop(events)
        trial, speed, curve, epoch = running.pop(number)
        epoch += 1
        used += 1
        value = float(curve[epoch - 1])
        if asha:
            trial.report(value, epoch)
        on = bar.decide(number, epoch, value)
        if on and epoch < EPOCHS:
            running[number] = (trial, speed, curve, epoch)
            heapq.heappush(events, (now + speed, number))
            continue
        study.tell(trial, value if on else None, TrialState.COMPLETE if on else TrialState.PRUNED)
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = truths[max(complete, key=lambda t: t.value).number] if complete else truths[0]
        picked.append((TOP - best) / (TOP - truths[0]))
        if asked < trials:
            start()
            asked += 1
    return Search(np.array(picked), used / trials / EPOCHS)


METHODS: dict[str, tuple[Callable[[Space, int], BaseSampler], int, bool]] = {
    "genetic": (SAMPLERS["genetic"], 1, False),
    "peer": (PeerSampler, 1, False),
    "tpe": (SAMPLERS["tpe"], 1, False),
    "random": (SAMPLERS["random"], 1, False),
    "genetic 8+asha": (SAMPLERS["genetic"], 8, True),
    "tpe 8+asha": (SAMPLERS["tpe"], 8, True),
    "random 8+asha": (SAMPLERS["random"], 8, True),
}


def _table(found: dict[str, list[list[Search]]], problems: list[str], marks: tuple[int, ...]) -> str:
    """Markdown: a row a method, a column a function; mean regret ± standard error over seeds."""
    lines = []
    for mark in marks:
        lines += [f"\nRegret after {mark} trials (defaults 1, optimum 0)\n"]
        lines += ["| method | " + " | ".join([*problems, "mean", "epochs"]) + " |"]
        lines += ["|---" * (len(problems) + 3) + "|"]
        for method, searches in found.items():
            regrets = np.array([[s.regret[mark - 1] for s in seeds] for seeds in searches])
            rows = [*regrets, regrets.mean(axis=0)]
            cells = [f"{row.mean():.2f} ± {row.std(ddof=1) / math.sqrt(len(row)):.2f}" for row in rows]
            epochs = np.mean([s.epochs for seeds in searches for s in seeds])
            lines += [f"| {method} | " + " | ".join(cells) + f" | {epochs:.2f} |"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="repeats of every search (default 20)")
    parser.add_argument("--first-seed", type=int, default=0, help="constants were chosen on 1000 and up")
    parser.add_argument("--trials", type=int, default=100, help="trials of a search (default 100)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    call = parser.parse_args()
    if call.seeds < 2 or call.trials < 1:
        parser.error("needs at least 2 seeds and 1 trial")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_space("default")
    prior = np.array([parameter.to_unit(parameter.prior) for parameter in space.parameters])
    found: dict[str, list[list[Search]]] = {}
    for method in call.methods:
        make, slots, asha = METHODS[method]
        found[method] = []
        for name in call.problems:
            searches = []
            for seed in range(call.first_seed, call.first_seed + call.seeds):
                problem = PROBLEMS[name](prior, np.random.default_rng((seed, 5)))
                searches.append(search(make(space, seed), space, problem, call.trials, seed, slots, asha))
            found[method].append(searches)
            print(f"{method}, {name}: done", file=sys.stderr)
    marks = tuple(mark for mark in (30, call.trials) if mark <= call.trials)
    print(_table(found, call.problems, tuple(dict.fromkeys(marks))))


if __name__ == "__main__":
    main()
