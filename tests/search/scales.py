"""A problem of two objectives like that of model scales: a larger model can be better, and costs more."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import Trial, TrialState

from tunekit.search.genes import reflect, to_units
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Space

CEILINGS, COSTS = (0.25, 0.36, 0.43), (3.0, 6.0, 15.0)
WORST = (0.0, 20.0)


def objectives(space: Space, params: dict[str, Any], seed: int) -> tuple[float, float]:
    """(fitness, cost): every scale has hyperparameters of its own that are best."""
    params = {parameter.name: params[parameter.name] for parameter in space.parameters}
    rng = np.random.default_rng((seed, 9))
    genes, scale = to_units(space, params), space.options("model").index(params["model"])
    centre = to_units(space, space.defaults()) + rng.normal(0, 0.25, len(genes))
    best = reflect(centre + rng.normal(0, 0.1, (3, len(genes)))[scale])
    away = (genes - best) ** 2
    away[list(params).index("model")] = 0.0
    return CEILINGS[scale] * float(np.exp(-2 * away.sum())), COSTS[scale]


def study_of(name: str, space: Space, seed: int, storage: BaseStorage | None = None) -> Study:
    return study_with(make_sampler(name, space, seed), space, storage)


def study_with(sampler: BaseSampler, space: Space, storage: BaseStorage | None = None) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="tune",
        storage=storage,
        directions=["maximize", "minimize"],
        sampler=sampler,
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(space.defaults())
    return study


def go_on(study: Study, space: Space, until: int, seed: int = 0, losses: bool = False) -> None:
    """Trial n ends when n + 3 begins; with `losses` every fifth is cut off and every seventh fails."""
    begun = sum(trial.state != TrialState.WAITING for trial in study.trials)
    for number in range(begun, until):
        assert study.ask(space.distributions()).number == number
        if number >= 3:
            past = study.get_trials(deepcopy=False)[number - 3]
            if losses and past.number % 7 == 6:
                study.tell(past.number, state=TrialState.FAIL)
            elif losses and past.number % 5 == 4:
                study._storage.set_trial_intermediate_value(past._trial_id, 1, 0.5)
                study.tell(past.number, state=TrialState.PRUNED)
            else:
                study.tell(Trial(study, past._trial_id), objectives(space, past.params, seed))


def hypervolume(study: Study) -> float:
    """What of the plane the trials dominate, up to WORST."""
    points = sorted((trial.values[1], trial.values[0]) for trial in study.trials if trial.values)
    ends = [cost for cost, _ in points[1:]] + [WORST[1]]
    best, area = WORST[0], 0.0
    for (cost, fitness), end in zip(points, ends, strict=True):
        best = max(best, fitness)
        area += best * (end - cost)
    return area
