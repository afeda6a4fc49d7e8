"""The Ray that processes run on: the one this process is already joined to, or a local one for a while.

A Ray that was there before (a notebook's) is used and never shut down. Knows nothing of what runs on it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path

import ray

from tunekit.errors import ResourceError
from tunekit.terminal import chatter_to

# What Ray and its workers read from the environment, whatever runs.
SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the user's folder
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
GPUS = "CUDA_VISIBLE_DEVICES"
VARIABLE = "RAY_ADDRESS"
CLIENT = "ray://"
# What a client of a cluster reads. It tries three times to be understood, so long each.
CLIENT_SETTINGS = {
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "4",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "4",
}
# A client is given a process that the head forks while it talks to others, and now and then such a process is
# dead at once: https://github.com/ray-project/ray/issues/63202
CHANCES = 2
LOST = "the connection to the cluster is lost: see that its head can be reached"
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
    if "://" in address and not address.startswith(CLIENT):
        raise ResourceError(
            f"{where}: a search takes host:port of a head node, {CLIENT}host:port of it, or auto"
        )
    try:
        _join(address)
    except Exception as fault:  # of many kinds, by what is wrong
        ray.shutdown()
        way = "`ray start --address=...` makes this machine a part of it"
        if address.startswith(CLIENT):
            way = "that for clients has port 10001 unless --ray-client-server-port= says otherwise"
        raise ResourceError(
            f"{where}: no Ray cluster could be joined there: {_reason(fault)}; `ray start --head` on its "
            f"head node says the address, {way}, and a cluster that asks for a token wants the same "
            "RAY_AUTH_TOKEN here"
        ) from fault
    try:
        yield
    except Exception as fault:
        if address.startswith(CLIENT) and is_loss(fault):
            raise ResourceError(f"{where}: {LOST}") from fault
        raise
    finally:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # what Ray's log has said once
            ray.shutdown()  # of this process's part in it


def _join(address: str) -> None:
    client = address.startswith(CLIENT)
    knock(address.removeprefix(CLIENT))
    for chances in reversed(range(CHANCES)):
        # To a client Ray says what it asks of its server, and what that one says of itself.
        quiet = chatter_to(Path(os.devnull)) if client else nullcontext()
        try:
            with _environment(CLIENT_SETTINGS), quiet:
                ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": SETTINGS})
            return
        except ConnectionAbortedError:
            ray.shutdown()
            if not chances:
                raise


def knock(address: str) -> None:
    """Raise OSError or ValueError where nobody listens: Ray itself would wait for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def _reason(fault: Exception) -> str:
    """In one line. Where Ray's first one only announces the others, all, or the last of a traceback."""
    first, *rest = str(fault).splitlines() or [type(fault).__name__]
    if not first.endswith(":"):
        return first
    if any(line.startswith("Traceback") for line in rest):
        rest = rest[-1:]
    return " ".join(" ".join([first, *rest]).split())


def is_client() -> bool:
    """Whether this process is joined to its Ray through ray://, and so is on none of its nodes."""
    return ray.util.client.ray.is_connected()


def is_loss(fault: Exception) -> bool:
    """Whether a client has lost its connection, which it may be told after half a minute of tries."""
    import grpc  # here: only clients need it

    return isinstance(fault, (ConnectionError, grpc.RpcError))


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
