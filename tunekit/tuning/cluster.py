"""The Ray that trials run on: with room for all slots, and with Tune's habits switched off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tunekit import cluster
from tunekit.errors import ResourceError
from tunekit.tuning.resources import Machine, Node, Slots, read_machine

# What Tune and its workers read from the environment while a search runs.
SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: control.py
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files of its own
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # no snapshots of the search: the study is the record
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # every epoch is judged before the next one begins
    "RAY_AIR_NEW_OUTPUT": "0",
}


def available() -> Machine:
    """What trials can be given."""
    if not ray.is_initialized():
        return read_machine()
    nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"])
    return Machine(
        tuple(
            Node(
                node["NodeManagerHostname"],
                int(node["Resources"].get("CPU", 0)),
                int(node["Resources"].get("GPU", 0)),
            )
            for node in nodes
        )
    )


@contextmanager
def running_ray(slots: Slots, machine: Machine) -> Iterator[None]:
    """A Ray with room for `slots` while the block runs."""
    settings = {**SETTINGS, "TUNE_MAX_PENDING_TRIALS_PG": str(slots.concurrent)}  # all actors start at once
    gpus = machine.gpus
    if slots.only_gpu is not None:
        if ray.is_initialized():
            raise ResourceError(
                "device= with a GPU's number: the Ray that runs already gives trials the GPUs it likes; "
                "leave device out"
            )
        gpus = 1
        settings[cluster.GPUS] = cluster.gpu_names((slots.only_gpu,), os.environ.get(cluster.GPUS))
    with cluster.running_ray(machine.cores, gpus, settings):
        yield
