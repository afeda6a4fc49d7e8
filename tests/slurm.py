"""A stand-in for Slurm, to run a batch script on this machine: its nodes are processes side by side.

`Slurm.start` runs the script as a batch job's shell with what Slurm sets; `srun` starts as many processes as
it is asked for and ends them with itself; `scontrol` names the hosts, and notes that a job was queued anew.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SRUN = """
import json, os, pathlib, signal, subprocess, sys
words = sys.argv[1:]
options = {}
while words[0].startswith("--"):
    name, _, value = words.pop(0)[2:].partition("=")
    options[name] = value
with open(os.environ["FAKE_STEPS"], "a") as log:
    log.write(json.dumps([options, words, os.environ.get("RAY_AUTH_TOKEN")]) + "\\n")
with open(options["output"], "a") as output:
    tasks = [
        subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)
        for _ in range(int(options["ntasks"]))
    ]
def ended(number, frame):
    raise SystemExit(143)
signal.signal(signal.SIGTERM, ended)
try:
    code = max(task.wait() for task in tasks)
finally:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for task in tasks:
        if task.poll() is None:
            os.killpg(task.pid, signal.SIGTERM)
            try:
                task.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(task.pid, signal.SIGKILL)
sys.exit(code)
"""

SCONTROL = """
import os, pathlib, sys
if sys.argv[1:3] == ["show", "hostnames"]:
    print(*sys.argv[3].split(","), sep="\\n")
else:
    pathlib.Path(os.environ["FAKE_QUEUED"]).write_text(" ".join(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Step:
    """What srun was asked for."""

    options: Mapping[str, str]
    words: tuple[str, ...]
    token: str


class Slurm:
    """`root` holds the commands and what they note; further commands may be put first on PATH with `add`."""

    def __init__(self, root: Path, hosts: tuple[str, ...] = ("n1", "n2")) -> None:
        self.bin = root / "bin"
        self.bin.mkdir(parents=True)
        self.hosts, self.job = hosts, _job_with_a_free_port()
        self._steps, self._queued = root / "steps", root / "queued"
        self.add("srun", SRUN)
        self.add("scontrol", SCONTROL)

    def add(self, name: str, program: str) -> None:
        """A command, written in Python."""
        (self.bin / name).write_text(f"#!{sys.executable}\n{program}")
        (self.bin / name).chmod(0o755)

    def start(self, script: Path, *words: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
        python = Path(sys.executable).parent
        return subprocess.Popen(
            ["bash", str(script), *words],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PATH": f"{self.bin}:{python}:{os.environ['PATH']}",
                "SLURM_JOB_ID": str(self.job),
                "SLURM_JOB_NAME": "tunekit",
                "SLURM_JOB_NODELIST": ",".join(self.hosts),
                "SLURM_CPUS_PER_TASK": "1",
                "HEAD_IP": "127.0.0.1",
                "FAKE_STEPS": str(self._steps),
                "FAKE_QUEUED": str(self._queued),
                **environment,
            },
        )

    @property
    def steps(self) -> list[Step]:
        lines = [json.loads(line) for line in self._steps.read_text().splitlines()]
        return [Step(options, tuple(words), token) for options, words, token in lines]

    def queued_anew(self) -> str | None:
        """What scontrol was told since it was last asked."""
        if not self._queued.exists():
            return None
        told = self._queued.read_text()
        self._queued.unlink()
        return told


def end(process: subprocess.Popen[str]) -> None:
    """A batch shell that is still there, and what it has started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _job_with_a_free_port() -> int:
    """A job's number, which the port of Ray's head follows from."""
    while True:
        job = random.randrange(10_000_000)
        with socket.socket() as line:
            if line.connect_ex(("127.0.0.1", 20000 + job % 10000)) != 0:
                return job
