"""Are importances right, and how long do they take?

Searches are made up of which is known what matters: their trials' fitness hangs on two of the hyperparameters
and on noise, and half of the worse ones are stopped. Counted is how often each of the two, and each of the
others, is said to matter or to have no effect.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from itertools import product

import common
import numpy as np
import optuna
from optuna.trial import TrialState

from tunekit.results.importance import importances
from tunekit.results.trials import TrialRow
from tunekit.search.asking import ask
from tunekit.search.genes import to_units
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Space, load_space

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of two genes, each (N,): higher is better
NOISE = 0.25  # of the variance of fitness, where trials are random
EPOCHS, STOPPED_AT = 12, 4
VERDICTS = ("mattered", "no effect", "unclear")


def add_up(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first has twice the variance of the second."""
    return -np.sqrt(2) * (first - 0.6) ** 2 - (second - 0.4) ** 2


def act_together(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The second matters in three tenths of the first's range only."""
    return np.where(first < 0.3, -((second - 0.4) ** 2), -0.1)


def neither(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.zeros_like(first)


SCORES: dict[str, Score] = {"add up": add_up, "act together": act_together, "only noise": neither}


def search(
    space: Space, sampler: str, score: Score, count: int, seed: int
) -> tuple[list[TrialRow], set[str]]:
    """Its trials, and the names of the two that matter."""
    rng = np.random.default_rng(seed)
    two = rng.choice(len(space.parameters), 2, replace=False)
    anywhere = score(*rng.random((2, 10_000)))
    centre, spread = float(anywhere.mean()), max(float(anywhere.std()), 1e-9)
    study = optuna.create_study(direction="maximize", sampler=make_sampler(sampler, space, seed))
    rows: list[TrialRow] = []
    for number in range(count):
        trial = ask(study, space)
        told = (score(*to_units(space, trial.params)[two, None])[0] - centre) / spread
        fitness = float(np.sqrt(1 - NOISE) * told + np.sqrt(NOISE) * rng.normal())
        worse = bool(rows) and fitness < np.median([row.fitness for row in rows])
        if worse and rng.random() < 0.5:
            trial.report(fitness, STOPPED_AT)
            study.tell(trial, state=TrialState.PRUNED)
            rows.append(TrialRow(number, "PRUNED", fitness, trial.params, epochs=STOPPED_AT))
        else:
            study.tell(trial, fitness)
            rows.append(TrialRow(number, "COMPLETE", fitness, trial.params, epochs=EPOCHS))
    return rows, {space.parameters[index].name for index in two}


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "importance")
    found.add_argument("--spaces", nargs="+", default=["quick", "default"])
    found.add_argument("--trials", nargs="+", type=int, default=[60, 250])
    found.add_argument("--samplers", nargs="+", default=["random", "genetic"])
    found.add_argument("--searches", type=int, default=32, help="of each kind and size")
    return found.parse_args()


def judged(space: Space, sampler: str, score: Score, count: int, searches: int) -> list[str]:
    """What is said of the two and of the others, in how many searches that is wrong, and the seconds."""
    said: Counter[tuple[bool, str]] = Counter()
    wrong, seconds = 0, 0.0
    for seed in range(searches):
        trials, two = search(space, sampler, score, count, seed)
        matter = two if score is not neither else set()
        start = time.perf_counter()
        rows = importances(trials, space, seed)
        seconds += time.perf_counter() - start
        said.update((row.parameter in matter, row.verdict) for row in rows)
        wrong += any(row.verdict == "mattered" and row.parameter not in matter for row in rows)
    cells = []
    for real in (True, False):
        whole = sum(said[real, verdict] for verdict in VERDICTS)
        cells += [f"{said[real, verdict]} of {whole}" for verdict in ("mattered", "no effect")]
    return [*cells, f"{wrong} of {searches}", f"{seconds / searches:.2f}"]


def main() -> None:
    options, began = arguments(), common.machine()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lines = []
    for space in map(load_space, options.spaces):
        for count, sampler, name in product(options.trials, options.samplers, SCORES):
            cells = judged(space, sampler, SCORES[name], count, options.searches)
            lines.append([f"{count} {sampler}", str(len(space.parameters)), name, *cells])
            print(" | ".join(lines[-1]), flush=True)
    header = ["trials", "hyperparameters", "the two", "matter: said so", "matter: said to have no effect"]
    header += [
        "idle: said to matter",
        "idle: said to have no effect",
        "searches with an idle one that matters",
    ]
    common.report("Importances that are known", began, common.table([*header, "s"], lines), options.out)


if __name__ == "__main__":
    main()
