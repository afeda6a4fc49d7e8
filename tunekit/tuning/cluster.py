"""The Ray that trials run on: the one this process is already joined to, or a local one for this search.

A Ray that was there before (a notebook's) is used and never shut down.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tunekit.errors import ResourceError
from tunekit.tuning.resources import Machine, Slots, read_machine

# What Tune and its workers read from the environment while a search runs.
SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: control.py
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files of its own
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # no snapshots of the search: the study is the record
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # every epoch is judged before the next one begins
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
STORE_BYTES = 100 * 1024**2  # Ray's object store: trials share images through files, not through it


def available() -> Machine:
    """What trials can be given."""
    if not ray.is_initialized():
        return read_machine()
    resources = ray.cluster_resources()
    return Machine(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))


@contextmanager
def running_ray(slots: Slots, machine: Machine) -> Iterator[None]:
    """A Ray with room for `slots` while the block runs."""
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(slots.concurrent)}  # all actors start at once
    if slots.only_gpu is not None:
        if ray.is_initialized():
            raise ResourceError(
                "device= with a GPU's number: the Ray that runs already gives trials the GPUs it likes; "
                "leave device out"
            )
        settings["CUDA_VISIBLE_DEVICES"] = str(slots.only_gpu)
    with _environment(settings):
        if ray.is_initialized():
            yield
            return
        try:
            ray.init(
                address="local",  # without it Ray may join whatever an old file names, and refuse num_cpus
                num_cpus=machine.cores,
                num_gpus=1 if slots.only_gpu is not None else machine.gpus,
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
            )
        except Exception as fault:  # a node that does not come up is told as a bare Exception
            ray.shutdown()
            first = (str(fault).splitlines() or [type(fault).__name__])[0]
            raise ResourceError(
                f"Ray did not start: {first} Its words are in the run's ray.log; on a busy machine, try again"
            ) from fault
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
