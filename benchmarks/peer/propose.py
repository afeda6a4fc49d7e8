"""The peer's tuner proposes: a line of JSON in, a line of JSON out, until there are no more lines.

In: the `space` {name: [low, high]}, the `defaults` {name: value}, a `seed`, and the `results` so far, in
their order, [{"fitness": ..., "hyperparameters": {...}}]. Out: the hyperparameters of its next trial. Runs in
the peer's environment and calls its own code; only its generator, which it does not seed, is given one.
"""

from __future__ import annotations

import contextlib
import json
import sys
from types import SimpleNamespace

import numpy as np

with contextlib.redirect_stdout(sys.stderr):  # where it is imported for the first time, it tells so
    from ultralytics.engine.tuner import Tuner


class Proposer(Tuner):
    """Its proposals, without the trainings that its constructor prepares."""

    def __init__(self, job: dict) -> None:
        self.space = {name: tuple(ends) for name, ends in job["space"].items()}
        self.args = SimpleNamespace(**job["defaults"])
        self.mongodb, self.prefix = None, ""
        self._results = job["results"]

    def _load_local_results(self) -> list[dict]:
        return self._results


def main() -> None:
    seeded = np.random.default_rng
    for line in sys.stdin:
        job = json.loads(line)
        np.random.default_rng = lambda seed=job["seed"]: seeded(seed)
        print(json.dumps(Proposer(job)._mutate()), flush=True)


if __name__ == "__main__":
    main()
