"""A real Ray cluster on this machine: a head and more nodes, started as a user starts them, on 127.0.0.1."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
# Ray takes them from the environment that a process begins with: all that has to do with the cluster is a
# process of its own.
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
# Jobs are started by the head's agent, and it has none when another Ray on this machine, such as that of
# a test beside this one, holds the port that all take when none is named.
QUIET = (
    *("--disable-usage-stats", "--block", "--object-store-memory=100000000"),
    "--dashboard-agent-listen-port=0",
)

WAIT = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
end = time.monotonic() + 90
while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[2]):
    assert time.monotonic() < end, ray.nodes()
    time.sleep(0.2)
"""


@dataclass
class Cluster:
    """Started by `running_cluster`; nodes are ended by their process ids."""

    address: str
    client: str  # the address to those who are on none of its nodes
    dashboard: str
    scratch: str  # the folder of Ray's own files, on each node
    host: str = "127.0.0.1"  # of the head
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of somebody who has the cluster's token."""
        return subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=280,
            env={**os.environ, **ENVIRONMENT, **environment},
        )

    def wait_for(self, count: int) -> None:
        """Until so many nodes are there."""
        done = self.run(sys.executable, "-c", WAIT, self.address, str(count), cwd=Path.cwd())
        assert done.returncode == 0, done.stderr

    def add(self, cpus: int, *hidden: Path, line: Line | None = None) -> subprocess.Popen[bytes]:
        """Another node with so many cores, for which the folders `hidden` are empty ones; at the far end of
        `line`.

        Ray's own files are of course: two nodes that share them delete each other's jobs.
        """
        command = [str(RAY), "start", f"--address={self.address}", f"--num-cpus={cpus}", *QUIET]
        if can_mount():
            hide = " && ".join(f"mount -t tmpfs none {folder}" for folder in (self.scratch, *hidden))
            command = ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh", *command]
        if line is not None:
            command = ["ip", "netns", "exec", line.name, *command, f"--node-ip-address={line.far}"]
        return self._start(command)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        node = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # Jobs call `python`: of an activated environment, as whoever starts a node has it.
            env={**os.environ, **ENVIRONMENT, "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"},
        )
        self.nodes.append(node)
        return node

    def end(self, node: subprocess.Popen[bytes]) -> None:
        """The node and all processes that it has started: at once, as when the power fails."""
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)  # a node leads a group of its own
            node.wait(30)


@contextmanager
def running_cluster(*cpus: int, host: str = "127.0.0.1") -> Iterator[Cluster]:
    """A head with cpus[0] cores, and a node for each more; ended with the block."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as scratch:
        port, client, dashboard = free_port(), free_port(), free_port()
        cluster = Cluster(
            f"{host}:{port}", f"ray://127.0.0.1:{client}", f"http://127.0.0.1:{dashboard}", scratch, host
        )
        try:
            cluster._start(
                [
                    *(str(RAY), "start", "--head", f"--port={port}", f"--node-ip-address={host}"),
                    *(f"--num-cpus={cpus[0]}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
                    *(f"--ray-client-server-port={client}", f"--temp-dir={scratch}", *QUIET),
                ]
            )
            wait_until_up(host, port)
            for count in cpus[1:]:
                cluster.add(count)
            cluster.wait_for(len(cpus))
            yield cluster
        finally:
            for node in reversed(cluster.nodes):
                cluster.end(node)


def wait_until_up(host: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as line:
            if line.connect_ex((host, port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the head does not come up")


@functools.cache
def can_mount() -> bool:
    """Whether nodes can be given folders of their own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Line:
    """A network cable: `near` is an address of this machine, `far` of the network namespace `name`."""

    name: str
    near: str
    far: str

    def cut(self) -> None:
        ip("link", "set", self.name, "down")

    def mend(self) -> None:
        ip("link", "set", self.name, "up")


@contextmanager
def network_line() -> Iterator[Line]:
    name, net = f"tk{os.getpid()}", f"10.213.{os.getpid() % 256}"
    line = Line(name, f"{net}.1", f"{net}.2")
    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "far", "netns", name)
        ip("address", "add", f"{line.near}/24", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "address", "add", f"{line.far}/24", "dev", "far")
        for device in ("far", "lo"):
            ip("-n", name, "link", "set", device, "up")
        yield line
    finally:
        ip("netns", "delete", name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@functools.cache
def can_unplug() -> bool:
    """Whether nodes can be given a network of their own."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])
