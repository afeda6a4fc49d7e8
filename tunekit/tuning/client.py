"""Ray Tune's loop, run in this process: also where it is no node's process but a client of the cluster (ray://).

In: a trainable and Tune's settings. Ray's own Tuner would move to the head node then, and take along what
belongs here: the study, the run folder, the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.train._internal import storage
from ray.tune.impl.tuner_internal import TunerInternal

from tunekit.cluster import is_client


def run_trials(trainable: Any, tune_config: tune.TuneConfig, run_config: tune.RunConfig) -> None:
    """Return when all have ended. Raises what ends Tune's loop."""
    if not is_client():
        tune.Tuner(trainable, tune_config=tune_config, run_config=run_config).fit()
        return
    with _staged_in(str(run_config.storage_path)):
        TunerInternal(
            trainable=trainable,
            tune_config=tune_config,
            run_config=run_config,
            _tuner_kwargs={"_remote": False},
        ).fit()


@contextmanager
def _staged_in(folder: str) -> Iterator[None]:
    """Tune's own files of a search, which nobody needs, are made in the folder of this node's Ray, without a
    setting for it. A client is on no node."""
    before = storage._get_ray_train_session_dir
    storage._get_ray_train_session_dir = lambda: folder
    try:
        yield
    finally:
        storage._get_ray_train_session_dir = before
