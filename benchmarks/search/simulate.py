"""One search in simulated time: a strategy on a box, `slots` trainings side by side, every epoch counted.

A strategy is what `tunekit tune` would use: an Optuna sampler and a rule that stops. What it would report,
the setting that it has found best so far, is written down with that setting's truth whenever a training ends.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from boxes import Box, Training
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import TrialState

from tunekit.search.asking import ask
from tunekit.search.genes import from_units
from tunekit.search.opening import opening
from tunekit.search.rule import Rule
from tunekit.search.space import Space
from tunekit.search.warm import Start


@dataclass(frozen=True)
class Strategy:
    """`sampler(space, seed)`; `rule(epochs)`, None where nothing is ever stopped; `opens`: after the defaults
    come the settings that auto opens with, whatever the sampler."""

    sampler: Callable[[Space, int], BaseSampler]
    rule: Callable[[int], Rule | None]
    opens: bool = False


@dataclass
class Story:
    """What a search came to, an item each time that a training ended."""

    epochs: list[int] = field(default_factory=list)  # spent by then, by all trainings
    seconds: list[float] = field(default_factory=list)  # of the simulated clock
    truth: list[float] = field(default_factory=list)  # of the setting that would be reported

    def at(self, epochs: np.ndarray) -> np.ndarray:
        """The truth of what would be reported with so many epochs spent; before anything, of the defaults."""
        places = np.searchsorted(self.epochs, epochs, side="right") - 1
        return np.asarray(self.truth)[np.maximum(places, 0)]


@dataclass
class _Running:
    trial: optuna.Trial
    training: Training
    epoch: int = 0


def search(
    strategy: Strategy, box: Box, slots: int, budget: int, seed: int, starts: Sequence[Start] = ()
) -> Story:
    """Until `budget` epochs are spent: what is begun by then does not end any more. The defaults come first,
    then the `starts`."""
    study = optuna.create_study(direction="maximize", sampler=strategy.sampler(box.space, seed))
    told = [from_units(box.space, genes) for genes in opening(box.space)] if strategy.opens else []
    for params in (box.space.defaults(), *(start.params for start in starts), *told):
        study.enqueue_trial(dict(params))
    rule, story = strategy.rule(box.epochs), Story()
    events: list[tuple[float, int]] = []
    running: dict[int, _Running] = {}
    spent = 0

    def start(now: float) -> None:
        trial = ask(study, box.space)
        training = box.train(trial.params, seed * 100_000 + trial.number)
        running[trial.number] = _Running(trial, training)
        heapq.heappush(events, (now + training.seconds[0], trial.number))

    for _ in range(slots):
        start(0.0)
    while spent < budget:
        now, number = heapq.heappop(events)
        one = running[number]
        one.epoch, spent = one.epoch + 1, spent + 1
        failed = one.epoch > len(one.training.fitness)
        if not failed:
            value = float(one.training.fitness[one.epoch - 1])
            one.trial.report(value, one.epoch)
            on = rule is None or rule.decide(number, one.epoch, value)
            if on and one.epoch < box.epochs:
                heapq.heappush(events, (now + one.training.seconds[one.epoch], number))
                continue
        del running[number]
        if failed:
            study.tell(one.trial, state=TrialState.FAIL)
        elif one.epoch < box.epochs:
            study.tell(one.trial, state=TrialState.PRUNED)
        else:
            study.tell(one.trial, float(one.training.fitness.max()))
        story.epochs.append(spent)
        story.seconds.append(now)
        story.truth.append(box.truth(reported(study, box.space)))
        start(now)
    return story


def reported(study: Study, space: Space) -> dict[str, Any]:
    """The parameters of the best whole training; before there is one, the defaults."""
    whole = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(whole, key=lambda trial: trial.value or 0.0).params if whole else space.defaults()
