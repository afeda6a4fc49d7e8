"""Who is compared: our samplers and rules by name, and the baselines that tunekit does not ship."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler, CmaEsSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from simulate import Strategy

from tunekit.search.asha import Asha, default_grace, rungs
from tunekit.search.auto import AutoSampler, Policy
from tunekit.search.forecast import Forecast
from tunekit.search.gaussian import GaussianProcess, Rows
from tunekit.search.genes import from_units, to_units
from tunekit.search.genetic import History, Result
from tunekit.search.opening import MOVES
from tunekit.search.rule import Rule
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Space
from tunekit.search.whole import WholeSampler

PROPOSE = Path(__file__).resolve().parents[1] / "peer" / "propose.py"
WARMUP = 3.0  # epochs, the default
REDUCTION = 3


class Baseline(WholeSampler):
    """A search of others, which is given all whole trainings and their fitness, in their order."""

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return self.after(number, [(one.params, float(one.value or 0.0)) for one in done])

    @abstractmethod
    def after(self, number: int, done: list[tuple[dict[str, Any], float]]) -> dict[str, Any]:
        """The parameters of trial `number`."""


class Peer(Baseline):
    """Ultralytics' newest tuner: its own code, in its own environment (PEER_PYTHON). It knows no scale but
    the linear one; with `scaled` it searches the genes of ours instead, in which a decade of lr0 is a quarter
    of the range, as all others here are given it."""

    def __init__(self, space: Space, seed: int, scaled: bool) -> None:
        super().__init__(space, seed)
        self._scaled = scaled

    def after(self, number: int, done: list[tuple[dict[str, Any], float]]) -> dict[str, Any]:
        job = {
            "seed": self._seed * 100_000 + number,
            "space": {
                self._name(p.name): [0.0, 1.0] if self._scaled else [p.low, p.high]
                for p in self._space.parameters
            },
            "defaults": self._told(self._space.defaults()),
            "results": [{"fitness": value, "hyperparameters": self._told(params)} for params, value in done],
        }
        process = _peer_process()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if self._scaled:
            genes = [answer[self._name(p.name)] for p in self._space.parameters]
            return from_units(self._space, np.array(genes))
        return {p.name: p.nearest(answer[p.name]) for p in self._space.parameters}

    def _name(self, name: str) -> str:
        """The peer makes whole numbers of some by their names, which a gene is not."""
        return f"gene_{name}" if self._scaled else name

    def _told(self, params: dict[str, Any]) -> dict[str, float]:
        if not self._scaled:
            return params
        genes = to_units(self._space, params)
        return {
            self._name(p.name): float(gene) for p, gene in zip(self._space.parameters, genes, strict=True)
        }


@functools.cache
def _peer_process() -> subprocess.Popen[str]:
    python = os.environ.get("PEER_PYTHON")
    if python is None:
        raise SystemExit("PEER_PYTHON is needed: the Python of an environment with ultralytics in it")
    return subprocess.Popen(
        [python, str(PROPOSE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "YOLO_OFFLINE": "true", "OMP_NUM_THREADS": "1"},
    )


class Classic(Baseline):
    """Ultralytics' evolution from 2023 to mid 2026, from a description of it: a child of the best nine by
    blend crossover (alpha .2), each gene times a lognormal factor with p .5, sigma .2 falling to .1 over 300
    trials; on values and not on genes, in linear ranges."""

    def after(self, number: int, done: list[tuple[dict[str, Any], float]]) -> dict[str, Any]:
        rng = np.random.default_rng((self._seed, number))
        best = sorted(done, key=lambda one: -one[1])[:9]
        if not best:
            return self._space.defaults()
        values = np.array([[params[p.name] for p in self._space.parameters] for params, _ in best], float)
        fitness = np.array([value for _, value in best])
        share = fitness - fitness.min() + 1e-6
        low, high = np.array([(p.low, p.high) for p in self._space.parameters]).T
        parents = values[rng.choice(len(best), size=2, p=share / share.sum())]
        blend = rng.uniform(-0.2, 1.2, len(low))
        child = parents[0] + blend * (parents[1] - parents[0])
        sigma = 0.2 - 0.1 * min(len(done) / 300, 1)
        factor = np.where(rng.random(len(low)) < 0.5, np.exp(rng.normal(0, sigma, len(low))), 1.0).clip(
            0.25, 4.0
        )
        child = np.clip(child * factor, low, high)
        return {p.name: p.nearest(float(v)) for p, v in zip(self._space.parameters, child, strict=True)}


class Lucky(AutoSampler):
    """Takes the highest score for the best, where auto asks its model."""

    _highest = 0.0

    def _rows(self, known: Sequence[tuple[FrozenTrial, np.ndarray]], sign: float) -> Rows:
        rows = super()._rows(known, sign)
        self._highest = float(rows.values.max())
        return rows

    def _learnt(self, study: Study, number: int, history: History) -> tuple[GaussianProcess, list[Result]]:
        model, seen = super()._learnt(study, number, history)
        places = {result.number: place for place, result in enumerate(history.ranked)}
        first, *others = sorted(seen, key=lambda result: places[result.number])
        return model, [replace(first, value=self._highest), *others]


class WholeAlone(AutoSampler):
    """Learns nothing from trials that were stopped or run."""

    def _rows(self, known: Sequence[tuple[FrozenTrial, np.ndarray]], sign: float) -> Rows:
        whole = [one for one in known if one[0].state == TrialState.COMPLETE]
        return super()._rows(whole or known, sign)


class NothingRuns(History):
    def running(self, number: int) -> list[tuple[FrozenTrial, np.ndarray]]:
        return []


class Blind(AutoSampler):
    """Knows nothing of trials that run."""

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        if self._history is None or self._history.study is not study:
            self._history = NothingRuns(study, self._space)
        return super().propose(study, number)


def _asha(epochs: int, whole: int = 1) -> Rule:
    return Asha(rungs(epochs, default_grace(epochs, WARMUP), REDUCTION), REDUCTION, whole)


def _forecast(epochs: int, whole: int = 1) -> Rule:
    return Forecast(epochs, default_grace(epochs, WARMUP), whole)


def _opened(rule: Callable[[int, int], Rule]) -> Callable[[int], Rule]:
    """What auto opens with is not stopped (tuning/schedulers.py)."""
    return lambda epochs: rule(epochs, 1 + len(MOVES))


def _top_tenth_after_one(epochs: int) -> Rule:
    """One epoch for all, the whole training for a tenth of them (arXiv 2307.15422), without waiting."""
    return Asha((1,), 10)


def _ours(sampler: str, rule: Callable[[int], Rule] | None) -> Strategy:
    return Strategy(lambda space, seed: make_sampler(sampler, space, seed), rule or (lambda epochs: None))


def _cma_of_optuna(space: Space, seed: int) -> BaseSampler:
    """As it comes: choices, of which there is no normal distribution, are drawn at random."""
    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


STRATEGIES: dict[str, Strategy] = {
    "peer": Strategy(lambda space, seed: Peer(space, seed, scaled=False), lambda epochs: None),
    "peer, our scales": Strategy(lambda space, seed: Peer(space, seed, scaled=True), lambda epochs: None),
    "classic": Strategy(Classic, lambda epochs: None),
    "random": _ours("random", None),
    "random + asha": _ours("random", _asha),
    "random + forecast": _ours("random", _forecast),
    "top tenth after one epoch": _ours("random", _top_tenth_after_one),
    "tpe": _ours("tpe", None),
    "tpe + asha": _ours("tpe", _asha),
    "tpe + forecast": _ours("tpe", _forecast),
    "auto": _ours("auto", None),
    "auto + asha": _ours("auto", _opened(_asha)),
    "auto + forecast": _ours("auto", _opened(_forecast)),
    "genetic": _ours("genetic", None),
    "genetic + asha": _ours("genetic", _asha),
    "genetic + forecast": _ours("genetic", _forecast),
    "priorband + asha": _ours("priorband", _asha),
    "optuna tpe": Strategy(lambda space, seed: TPESampler(seed=seed), lambda epochs: None),
    "optuna cmaes": Strategy(_cma_of_optuna, lambda epochs: None),
}


def _auto(policy: Policy) -> Strategy:
    return Strategy(lambda space, seed: AutoSampler(space, seed, policy), _opened(_forecast))


# The default without one of its parts (without the rule it is auto alone), and others with its opening.
ABLATED: dict[str, Strategy] = {
    "auto + forecast, no opening": _auto(Policy(opens=False)),
    "genetic + forecast, auto's opening": replace(_ours("genetic", _opened(_forecast)), opens=True),
    "tpe + asha, auto's opening": replace(_ours("tpe", _opened(_asha)), opens=True),
    "random + asha, auto's opening": replace(_ours("random", _opened(_asha)), opens=True),
    "auto + forecast, no rounds": _auto(Policy(rounds=0)),
    "auto + forecast, nothing foretold": Strategy(WholeAlone, _opened(_forecast)),
    "auto + forecast, the luckiest is best": Strategy(Lucky, _opened(_forecast)),
    "auto + forecast, blind to what runs": Strategy(Blind, _opened(_forecast)),
}
