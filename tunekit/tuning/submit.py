"""`tunekit submit`: a command of tunekit in, run as a job on a Ray cluster, its words and its exit code out.

The working directory goes along; data sets and results do not: they lie on disks that the cluster's nodes
see. What can be wrong with the command is found here, before anything is sent.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from tunekit.errors import ArgumentError, JobError, ResourceError
from tunekit.tuning.package import pack, sent_files
from tunekit.verb_args import SubmitArgs
from tunekit.verbs import arguments
from tunekit.words import parse

ADDRESS = "RAY_API_SERVER_ADDRESS"
LOOK_SECONDS = 1.0
STARTING_SECONDS = 180.0  # a cluster answers before it can take a job: on a busy machine, long before
# So long may a job that is stopped take to end in order: Ray's own 3 s are few for a large search.
STOPPING = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
REMOTE = ("tune", "train", "val")
ENDED = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}

T = TypeVar("T")


def submit(args: SubmitArgs) -> str:
    """Send a job, attach to one or stop it; the job's id. Raises JobError with its exit code if it fails."""
    chosen = [name for name in ("job", "attach", "stop") if getattr(args, name) is not None]
    if len(chosen) != 1:
        raise ArgumentError(
            "submit takes one thing to do: a command (tunekit submit tune data=...), attach=ID or stop=ID"
        )
    address = args.address or os.environ.get(ADDRESS)
    if address is None:
        raise ArgumentError(
            f"address= of the cluster is missing, such as http://127.0.0.1:8265 (or {ADDRESS})"
        )
    if args.job is not None:
        words = shlex.split(args.job)
        root = Path(args.working_dir).absolute()
        files = _checked(words, root)
        with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
            size = pack(root, files, Path(folder), args.max_size)
            client = _client(address)
            job = _reached(address, lambda: _send(client, address, args.name, words, folder))
        print(f"job {job}: {len(files)} files ({size:.1f} MB) sent to {address}", flush=True)
    else:
        client, job = _client(address), args.attach or args.stop or ""
        _details(client, address, job)
    if args.stop is not None:
        _reached(address, lambda: client.stop_job(job))
        print(f"job {job} is asked to stop")
        return job
    print(_ways(address, job), flush=True)
    if args.follow:
        _follow(client, address, job)
    return job


def _checked(words: list[str], root: Path) -> list[Path]:
    """The files to send, if the command can be run with them."""
    if not words or words[0] not in REMOTE:
        raise ArgumentError(f"a job is one of {', '.join(REMOTE)}: tunekit submit address=... tune data=...")
    if not root.is_dir():
        raise ArgumentError(f"working_dir={root} is not a folder")
    verb, settings = words[0], parse(words[0], words[1:])
    before = Path.cwd()
    os.chdir(root)  # cfg= is meant from there
    try:
        args = arguments(verb, settings)
    finally:
        os.chdir(before)
    for name in ("project", "resume"):
        value = getattr(args, name, None)
        if isinstance(value, str) and not Path(value).is_absolute():
            raise ArgumentError(
                f"{name}={value}: a job's own folder is deleted when it ends; give an absolute path on a "
                f"disk that the cluster's nodes share, such as {name}=/shared/runs/{verb}"
            )
    files = sent_files(root)
    for name, value in settings.items():
        path = Path(value)
        if not path.is_absolute() and (root / path).is_file() and Path(os.path.normpath(path)) not in files:
            raise ArgumentError(
                f"{name}={value}: this file is not sent along, as a .gitignore leaves it out or it lies "
                f"outside of {root}"
            )
    return files


def _client(address: str) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise ArgumentError(f"address={address}: jobs go to the dashboard: http://HOST:8265")
    return _reached(address, lambda: JobSubmissionClient(address))


def _send(client: JobSubmissionClient, address: str, name: str | None, words: list[str], folder: str) -> str:
    began, told = time.monotonic(), False
    while True:
        try:
            return client.submit_job(
                entrypoint=shlex.join(["python", "-u", "-m", "tunekit", *words]),
                submission_id=name,
                runtime_env={"working_dir": folder, "env_vars": STOPPING},
            )
        except RuntimeError as fault:
            if "No available agent" not in str(fault):
                raise
            if time.monotonic() > began + STARTING_SECONDS:
                raise ResourceError(
                    f"address={address}: the cluster takes no jobs, as the agent of its head does not "
                    "answer. Does another Ray on that machine hold port 52365? Give the head's `ray start` "
                    "another one: --dashboard-agent-listen-port=0 finds a free one"
                ) from fault
        if not told:
            print("the cluster cannot take a job yet, as if it were just starting: trying again", flush=True)
            told = True
        time.sleep(LOOK_SECONDS)


def _reached(address: str, call: Callable[[], T]) -> T:
    """What the cluster says to `call`; its faults in one sentence."""
    try:
        return call()
    except (ConnectionError, RuntimeError, ValueError) as fault:
        reason = " ".join(str(fault).split())[:300]
        raise ResourceError(
            f"address={address}: {reason}. Is it the address of a cluster's dashboard (port 8265), and does "
            "RAY_AUTH_TOKEN hold its token, if it asks for one?"
        ) from fault


def _details(client: JobSubmissionClient, address: str, job: str) -> JobDetails:
    try:
        return client.get_job_info(job)
    except RuntimeError as fault:
        if "404" not in str(fault) and "does not exist" not in str(fault):
            raise ResourceError(f"address={address}: {str(fault).splitlines()[0]}") from fault
        there = ", ".join(sorted(str(known.submission_id) for known in client.list_jobs()))
        raise ArgumentError(f"{job} is no job of {address}; there are: {there or 'none'}") from None


def _ways(address: str, job: str) -> str:
    return (
        "Ctrl-C leaves it alone, and it goes on\n"
        f"  attach again: tunekit submit address={address} attach={job}\n"
        f"  stop it:      tunekit submit address={address} stop={job}"
    )


def _follow(client: JobSubmissionClient, address: str, job: str) -> None:
    """Say what the job says until it ends, also over a broken connection."""
    said = 0
    while True:
        said = asyncio.run(_say(client, job, said))
        details = _details(client, address, job)
        if details.status in ENDED:
            break
        time.sleep(LOOK_SECONDS)
    if details.status != JobStatus.SUCCEEDED:
        reason = " ".join((details.message or "").split())[:300]
        raise JobError(
            f"job {job} {details.status.lower()}: {reason}",
            code=details.driver_exit_code or JobError.exit_code,
        )
    print(f"job {job} succeeded")


async def _say(client: JobSubmissionClient, job: str, said: int) -> int:
    """Print its log from character `said` on; how many characters there have been."""
    seen = 0
    try:
        async for text in client.tail_job_logs(job):
            fresh = text[max(said - seen, 0) :]
            seen += len(text)
            print(fresh, end="", flush=True)
    except (ConnectionError, OSError, RuntimeError):
        pass  # the caller looks whether the job is still there
    return max(seen, said)
