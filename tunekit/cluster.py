"""The Ray that processes run on: the one this process is already joined to, or a local one for a while.

A Ray that was there before (a notebook's) is used and never shut down. Knows nothing of what runs on it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import ray

from tunekit.errors import ResourceError

# What Ray and its workers read from the environment, whatever runs.
SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the user's folder
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
GPUS = "CUDA_VISIBLE_DEVICES"
VARIABLE = "RAY_ADDRESS"
KNOCK_SECONDS = 10.0
STORE_BYTES = 100 * 1024**2  # Ray's object store: workers share images through files, not through it


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Joined to the cluster at `address` while the block runs, or to that which RAY_ADDRESS names.

    Without either, and where this process is joined to a Ray already, nothing changes. The cluster stays up.
    """
    if ray.is_initialized():
        if address is not None:
            raise ResourceError(f"address={address}: this process is joined to a Ray already; leave it out")
        yield
        return
    where = f"address={address}" if address is not None else f"RAY_ADDRESS={os.environ.get(VARIABLE)}"
    address = address or os.environ.get(VARIABLE)
    if address in (None, "", "local"):
        yield
        return
    if "://" in address:
        raise ResourceError(
            f"{where}: a search joins the cluster as one of its processes, so it takes host:port of the head "
            "node, and runs on a node of the cluster"
        )
    try:
        knock(address)
        ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": SETTINGS})
    except Exception as fault:  # of many kinds, by what is wrong
        ray.shutdown()
        first = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise ResourceError(
            f"{where}: no Ray cluster could be joined there: {first}; `ray start --head` on its head node "
            "says the address, `ray start --address=...` makes this machine a part of it, and a cluster that "
            "asks for a token wants the same RAY_AUTH_TOKEN here"
        ) from fault
    try:
        yield
    finally:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # what Ray's log has said once
            ray.shutdown()  # of this process's part in it


def knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens: Ray itself would wait for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def user_directory() -> Path | None:
    """The folder that relative paths are meant from, on every node. None: processes are there already, as in
    a job, whose folder Ray unpacks on each node."""
    in_a_job = ray.is_initialized() and ray.get_runtime_context().runtime_env.get("working_dir")
    return None if in_a_job else Path.cwd()


@contextmanager
def running_ray(cores: int, gpus: int, settings: Mapping[str, str]) -> Iterator[None]:
    """A Ray while the block runs; a new one has `cores` and `gpus`. `settings` go into the environment."""
    with _environment({**SETTINGS, **settings}):
        if ray.is_initialized():
            yield
            return
        try:
            ray.init(
                address="local",  # without it Ray may join whatever an old file names, and refuse num_cpus
                num_cpus=cores,
                num_gpus=gpus,
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
            )
        except Exception as fault:  # a node that does not come up is told as a bare Exception
            ray.shutdown()
            first = (str(fault).splitlines() or [type(fault).__name__])[0]
            way = "on a busy machine, try again"
            if "AF_UNIX" in first:  # its sockets are files, whose paths may not be long
                way = "let RAY_TMPDIR name a folder with a short path"
            raise ResourceError(
                f"Ray did not start: {first}. Its words are in the run's ray.log; {way}"
            ) from fault
        try:
            yield
        finally:
            ray.shutdown()


def gpu_names(numbers: Iterable[int], seen: str | None) -> str:
    """What CUDA_VISIBLE_DEVICES must say to show these GPUs only; `numbers` count those `seen` so far."""
    names = seen.split(",") if seen else None
    return ",".join(names[number] if names else str(number) for number in numbers)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
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
