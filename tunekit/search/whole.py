"""What samplers that choose all parameters of a space at once have in common.

Such a sampler is asked through `asking.ask`, and never for a single parameter.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from tunekit.search.space import Space


class WholeSampler(BaseSampler):
    """Of `space`. What it proposes depends on (seed, the trial's number, the study's trials) alone."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    @abstractmethod
    def propose(self, study: Study, number: int) -> dict[str, Any]:
        """The parameters of trial `number`; who asks takes those whose conditions are met."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.propose(study, trial.number)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise LookupError(f"{param_name} is not in the search space {self._space.name}")
