"""What does a warm start bring where the earlier search was of something similar, and what does it cost where
that one misleads?

The earlier search is 50 trials of `genetic` on a function of its own: `helpful`, the same one moved by up
to a tenth of each range, or `misleading`, mirrored at the defaults, so that what was good there is bad here.
Its best settings are tried first (`tunekit/search/warm.py`). Shown is what is missing to the optimum, as a
share of what the defaults miss, with the standard error over seeds; nothing is stopped, one trial after
another.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import common
import numpy as np
import optuna
from boxes import PROBLEMS, Synthetic
from simulate import search
from strategies import STRATEGIES

from tunekit.search.asking import ask
from tunekit.search.genes import to_units
from tunekit.search.samplers import make_sampler
from tunekit.search.warm import Start, choose

EARLIER = ("none", "helpful", "misleading")
TRIALS = 50  # of the earlier search
MARKS = (10, 30)  # trials of the new one
MOVED = 0.1


@dataclass(frozen=True)
class Related(Synthetic):
    """The same function as the Synthetic of its seed would have, but elsewhere."""

    helpful: bool = True

    @cached_property
    def score(self) -> Callable[[np.ndarray], float]:
        there = Synthetic(self.kind, self.seed, self.searched).score
        prior = to_units(self.space, self.space.defaults())
        if not self.helpful:
            return lambda genes: there(2 * prior - genes)
        moved = np.random.default_rng((self.seed, 7)).uniform(-MOVED, MOVED, len(prior))
        return lambda genes: there(genes + moved)


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "warm")
    found.add_argument("--seeds", type=int, default=12)
    found.add_argument("--samplers", nargs="+", default=["genetic", "auto"])
    found.add_argument("--spaces", nargs="+", default=["default", "quick"])
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    cases = list(product(options.spaces, options.samplers, EARLIER))
    jobs = [(*case, seed) for case in cases for seed in range(options.seeds)]
    with multiprocessing.get_context("spawn").Pool(common.cores()) as pool:
        missing = dict(zip(jobs, pool.map(regret, jobs, chunksize=1), strict=True))
    rows = []
    for case in cases:
        values = [missing[(*case, seed)] for seed in range(options.seeds)]
        found = [common.mean_and_error(column) for column in zip(*values, strict=True)]
        rows.append([*case, *(f"{mean:.3f} ± {error:.3f}" for mean, error in found)])
    header = ["space", "sampler", "earlier search", *(f"after {mark} trials" for mark in MARKS)]
    common.report("Warm starts", began, common.table(header, rows), options.out)


def regret(job: tuple[str, str, str, int]) -> list[float]:
    """At MARKS. Seeds take turns with the functions."""
    space, sampler, earlier, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kind = list(PROBLEMS)[seed % len(PROBLEMS)]
    starts = [] if earlier == "none" else best_of(Related(kind, seed, space, helpful=earlier == "helpful"))
    box = Synthetic(kind, seed, space)
    story = search(STRATEGIES[sampler], box, 1, MARKS[-1] * box.epochs, seed, starts)
    lost = box.top - box.truth(box.space.defaults())
    return [(box.top - story.truth[mark - 1]) / lost for mark in MARKS]


def best_of(box: Related) -> list[Start]:
    """What a warm start takes from a search there."""
    study = optuna.create_study(direction="maximize", sampler=make_sampler("genetic", box.space, box.seed))
    study.enqueue_trial(box.space.defaults())
    ended: list[tuple[float, int, dict[str, Any]]] = []
    for number in range(TRIALS):
        trial = ask(study, box.space)
        value = float(box.train(trial.params, number).fitness.max())
        study.tell(trial, value)
        ended.append((value, number, trial.params))
    ended.sort(key=lambda one: -one[0])
    return choose([[Start("earlier", number, params) for _, number, params in ended]], box.space)


if __name__ == "__main__":
    main()
