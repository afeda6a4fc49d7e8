"""Which settings are trained: around the defaults, anywhere, what searchers propose, and some of them again.

Searches want to know the region around the defaults and the good region well, and a surrogate must know the
bad ones, too; what searchers propose lies where neither of the first two look.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import torch
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from strategies import Peer
from table import Table

from tunekit.search.asking import ask
from tunekit.search.genes import from_units, reflect, to_units
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Space

# Sampler, seeds, trainings of each. auto's first four are from before it had its opening.
SEARCHES = [
    ("genetic", range(2), 60),
    ("tpe", range(1), 60),
    ("auto", range(4), 30),
    ("auto", range(4, 6), 60),
    ("peer", range(2), 100),
]


@dataclass(frozen=True)
class Job:
    """A training to be run."""

    setting: int
    source: str
    seed: int
    params: dict[str, Any]


@dataclass(frozen=True)
class Source(ABC):
    name: str
    target: int  # trainings

    @abstractmethod
    def next(self, table: Table, running: list[Job], setting: int) -> Job | None:
        """Its next training, None while it must wait; a new setting gets the number `setting`."""


@dataclass(frozen=True)
class Defaults(Source):
    """The defaults, with one seed after another."""

    def next(self, table: Table, running: list[Job], setting: int) -> Job | None:
        known = [row["setting"] for row in table.of(self.name)]
        known += [job.setting for job in running if job.source == self.name]
        return Job(min(known, default=setting), self.name, len(known), table.space.defaults())


@dataclass(frozen=True)
class Near(Source):
    """Some of the defaults' genes moved, a few or all, a little or far."""

    def next(self, table: Table, running: list[Job], setting: int) -> Job | None:
        rng = np.random.default_rng((1, setting))
        prior = to_units(table.space, table.space.defaults())
        chosen = rng.random(len(prior)) < rng.uniform(0.1, 1.0)
        sigma = np.exp(rng.uniform(np.log(0.05), np.log(0.5)))
        genes = np.where(chosen, reflect(rng.normal(prior, sigma)), prior)
        return Job(setting, self.name, 0, from_units(table.space, genes))


@dataclass(frozen=True)
class Anywhere(Source):
    """A scrambled Sobol sequence over the whole space."""

    def next(self, table: Table, running: list[Job], setting: int) -> Job | None:
        done = len(table.of(self.name)) + sum(job.source == self.name for job in running)
        engine = torch.quasirandom.SobolEngine(len(table.names), scramble=True, seed=0).fast_forward(done)
        return Job(setting, self.name, 0, from_units(table.space, engine.draw(1)[0].numpy()))


@dataclass(frozen=True)
class Search(Source):
    """A sampler, or the peer's tuner, that begins with the defaults and trains one setting after another to
    its end."""

    sampler: str
    seed: int

    def next(self, table: Table, running: list[Job], setting: int) -> Job | None:
        if any(job.source == self.name for job in running):
            return None
        study = optuna.create_study(direction="maximize", sampler=self._sampler(table.space))
        distributions = table.space.distributions()
        for row in table.of(self.name):
            failed = row["failed"] is not None
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.FAIL if failed else TrialState.COMPLETE,
                    params=table.params(row),
                    distributions=distributions,
                    value=None if failed else max(row["fitness"]),
                    intermediate_values=dict(enumerate(row["fitness"], start=1)),
                )
            )
        if not study.trials:
            study.enqueue_trial(table.space.defaults())
        params = ask(study, table.space).params
        return Job(setting, self.name, 0, params)

    def _sampler(self, space: Space) -> BaseSampler:
        if self.sampler == "peer":
            return Peer(space, self.seed, scaled=False)
        return make_sampler(self.sampler, space, self.seed)


@dataclass(frozen=True)
class Again(Source):
    """Settings of the other sources with further seeds, of all ranks; half of them from the best fifth."""

    repeats: int = 4
    after: int = 200  # trainings of others, so that ranks mean something

    def next(self, table: Table, running: list[Job], setting: int) -> Job | None:
        mine = [(row["setting"], row["seed"]) for row in table.of(self.name)]
        mine += [(job.setting, job.seed) for job in running if job.source == self.name]
        others = [row for row in table.rows if row["source"] not in (self.name, "defaults")]
        others = [row for row in others if row["failed"] is None]
        if len(others) < self.after:
            return None
        begun = sorted({setting for setting, _ in mine})
        for again in begun:
            seeds = [seed for other, seed in mine if other == again]
            if len(seeds) < self.repeats:
                params = next(table.params(row) for row in others if row["setting"] == again)
                return Job(again, self.name, max(seeds) + 1, params)
        ranked = sorted(
            (row for row in others if row["setting"] not in begun), key=lambda row: -max(row["fitness"])
        )
        rng = np.random.default_rng((2, len(begun)))
        share = rng.uniform(0, 0.2) if len(begun) % 2 == 0 else rng.uniform(0.2, 1)
        row = ranked[int(share * len(ranked))]
        return Job(row["setting"], self.name, 1, table.params(row))


def sources(scale: float) -> list[Source]:
    """All of them, for about 1,500 * `scale` trainings."""

    def count(trainings: int) -> int:
        return max(round(trainings * scale), 1)

    searches = [
        Search(f"{sampler}-{seed}", count(trainings), sampler, seed)
        for sampler, seeds, trainings in SEARCHES
        for seed in seeds
    ]
    return [
        Defaults("defaults", count(20)),
        Near("near", count(330)),
        Anywhere("anywhere", count(240)),
        *searches,
        Again("again", count(280)),
    ]
