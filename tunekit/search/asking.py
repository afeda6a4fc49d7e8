"""A study and its space in, the study's next trial out, which has its parameters.

Everybody asks through here. A parameter with a condition is suggested when its parents are known, and only
where the condition is met: so a trial of the study has exactly the parameters that were searched in it, and
Optuna's own samplers see which it has.
"""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import Trial

from tunekit.search.parameter import Value
from tunekit.search.space import Space


def ask(study: Study, space: Space) -> Trial:
    """The first trial that waits in the study, else a new one of its sampler's."""
    trial = study.ask()
    known: dict[str, Value] = {}
    for parameter in space.parents_first:
        if parameter.is_active(known):
            known[parameter.name] = parameter.suggest(trial)
    return trial
