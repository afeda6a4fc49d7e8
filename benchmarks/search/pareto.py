"""Do samplers find good compromises between fitness and the cost of a model's scale?

A made-up problem over `space=scales` (tests/search/scales.py): every scale has hyperparameters of its own
that are best. Shown is the mean hypervolume over seeds, what of the plane the trials dominate; larger is
better. Optuna's NSGA-II as it comes takes half of 100 trials for its first generation, so it is shown with
our size of a generation, too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

import common
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from tests.search.scales import go_on, hypervolume, study_with
from tunekit.search.nsga2 import SIZE
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Space, load_space

SAMPLERS: dict[str, Callable[[Space, int], BaseSampler]] = {
    "nsga2": lambda space, seed: make_sampler("nsga2", space, seed),
    "random": lambda space, seed: make_sampler("random", space, seed),
    "optuna nsga2": lambda space, seed: NSGAIISampler(seed=seed),
    f"optuna nsga2, generations of {SIZE}": lambda space, seed: NSGAIISampler(
        population_size=SIZE, seed=seed
    ),
    "optuna tpe": lambda space, seed: TPESampler(seed=seed),
}


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "pareto")
    found.add_argument("--seeds", type=int, default=24)
    found.add_argument("--trials", type=int, default=100)
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    jobs = [(name, options.trials, seed) for name in SAMPLERS for seed in range(options.seeds)]
    with multiprocessing.get_context("spawn").Pool(common.cores()) as pool:
        found = dict(zip(jobs, pool.map(area, jobs, chunksize=1), strict=True))
    rows = []
    for name in SAMPLERS:
        areas = [found[(name, options.trials, seed)] for seed in range(options.seeds)]
        mean, error = common.mean_and_error(areas)
        rows.append([name, f"{mean:.2f} ± {error:.2f}"])
    header = ["sampler", f"hypervolume after {options.trials} trials"]
    common.report("Several objectives", began, common.table(header, rows), options.out)


def area(job: tuple[str, int, int]) -> float:
    name, trials, seed = job
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load_space("scales")
    study = study_with(SAMPLERS[name](space, seed), space)
    go_on(study, space, trials, seed)
    return hypervolume(study)


if __name__ == "__main__":
    main()
