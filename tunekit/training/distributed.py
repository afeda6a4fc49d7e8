"""Several processes train one model: a run folder and a device for each of them in, the trained folder out.

Ray Train's TorchTrainer starts the processes (worker.py), and starts them again when one dies. Then they go
on from weights/last.pt, so that a death costs the epoch it came in and nothing else. Here is the user's side:
what the workers say is said, what they find wrong is raised, Ctrl-C ends them.
"""

from __future__ import annotations

import os
import queue
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import ray
import ray.train
from ray.exceptions import RayError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunekit.args import TrainArgs
from tunekit.cluster import GPUS, gpu_names, running_ray
from tunekit.control import Control
from tunekit.errors import ArgumentError, CheckpointError, ResourceError, TrainingError, TunekitError
from tunekit.models.weights import read_checkpoint
from tunekit.terminal import chatter_to
from tunekit.training.device import available_cores
from tunekit.training.group import LOOK_SECONDS, SETTINGS, Team, WorkerFault, WorkerGroup, first_words
from tunekit.training.lanes import check_lanes
from tunekit.training.place import TRAININGS, new_mark
from tunekit.training.result import EpochResult
from tunekit.training.worker import Began, Died, Job, Judge, told, work

MOST_DEATHS = 3
LEAVING_SECONDS = 30.0


def check_together(args: TrainArgs, device: str, workers: int) -> None:
    """Raise ArgumentError where `workers` cannot train one model on such devices, wherever they are."""
    check_lanes(args, device, workers)
    if 1 <= args.batch < workers:
        raise ArgumentError(f"batch={args.batch}: {workers} workers need at least an image each")


def check_workers(args: TrainArgs, devices: tuple[str, ...]) -> None:
    """Raise ResourceError or ArgumentError where so many workers cannot train. Costs nothing."""
    workers, cuda = len(devices), devices[0].startswith("cuda")
    check_together(args, devices[0], workers)
    if (cuda and len(set(devices)) < workers) or len({device.partition(":")[0] for device in devices}) > 1:
        raise ResourceError(f"device={args.device}: each GPU once, and nothing beside GPUs")
    cores, gpus, whose = available_cores(), len(devices), "this machine"
    if ray.is_initialized():
        if cuda and "," in (args.device or ""):
            raise ResourceError(
                f"device={args.device}: the Ray that runs already gives workers the GPUs it likes; "
                f"write workers={workers} instead"
            )
        resources = ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        whose = "the Ray that runs already"
    if cuda and gpus < workers:
        raise ResourceError(f"{workers} workers need a GPU each, and {whose} has {gpus}")
    if not cuda and cores < workers:
        raise ResourceError(
            f"workers={workers}: each needs a CPU core, and {whose} has {cores}; one worker uses them all"
        )


def train_on_workers(
    args: TrainArgs,
    devices: tuple[str, ...],
    folder: Path,
    *,
    resume: bool,
    say: Callable[[str], object],
    on_epoch: Callable[[EpochResult], object] | None,
) -> TrainArgs:
    """Train in `folder` with a worker on each of `devices`; returns the arguments with nothing left open.

    `say` and `on_epoch` are called here while the workers train. Raises what a worker found wrong,
    TrainingError when workers keep dying, and KeyboardInterrupt after Ctrl-C.
    """
    check_workers(args, devices)
    cuda = devices[0].startswith("cuda")
    settings = SETTINGS
    if cuda:
        numbers = [int(device.partition(":")[2]) for device in devices]
        settings = {**SETTINGS, GPUS: gpu_names(numbers, os.environ.get(GPUS))}
    control = Control()
    with (
        chatter_to(folder / "ray.log") as terminal,
        control.catching_interrupts(),
        tempfile.TemporaryDirectory(prefix="tunekit-") as scratch,
    ):
        listener = _Listener(folder, len(devices), say, on_epoch, terminal)
        listener.say(f"starting {len(devices)} workers on Ray, which may take a minute")
        with running_ray(available_cores(), len(devices) if cuda else 0, settings):
            words = _queue()
            group = _Group(Job(args, folder, resume, Path.cwd(), words), devices, scratch)
            try:
                while group.working and not control.interrupted:
                    listener.hear(words)
                while not control.interrupted and listener.hear(words):
                    pass  # the last words of a group that is gone
            except RayError as fault:
                raise TrainingError(f"Ray broke down: {first_words(fault)}; {_way_on(folder)}") from fault
            finally:
                group.leave(listener.worker)
        if control.interrupted:
            listener.say(f"interrupted; {_way_on(folder)}")
            raise KeyboardInterrupt
        group.raise_fault(folder)
    if listener.args is None:
        raise TrainingError(f"the workers ended without a word; see {folder / 'ray.log'}")
    return listener.args.model_copy(update={"device": devices[0]})


class _Listener:
    """Passes on what the workers say, and remembers what is needed later."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        say: Callable[[str], object],
        on_epoch: Callable[[EpochResult], object] | None,
        terminal: TextIO,
    ) -> None:
        self.args: TrainArgs | None = None
        self.worker: Any = None
        self._folder, self._workers = folder, workers
        self._say, self._on_epoch = say, on_epoch
        self._terminal = terminal
        self._said: set[str] = set()
        self._deaths = 0

    def say(self, text: str) -> None:
        with redirect_stdout(self._terminal):
            self._say(text)

    def hear(self, words: Queue) -> bool:
        """Wait a moment for one word; whether one came."""
        try:
            word = told(words, LOOK_SECONDS)
        except queue.Empty:
            return False
        if isinstance(word, str):
            if word not in self._said:  # a second group begins with the words of the first
                self._said.add(word)
                self.say(word)
        elif isinstance(word, Began):
            self.args, self.worker = word.args, word.worker
        elif isinstance(word, Died):
            self._deaths += 1
            if self._deaths <= MOST_DEATHS:
                self.say(self._epitaph(word))
        elif self._on_epoch is not None:
            with redirect_stdout(self._terminal):
                self._on_epoch(word)
        return True

    def _epitaph(self, word: Died) -> str:
        who = "worker " + " and ".join(map(str, word.workers)) + f" of {self._workers}"
        return (
            f"{who} died (killed, or out of memory): all start again and go on from epoch "
            f"{_last_epoch(self._folder) + 1}"
        )


class _Group:
    """The workers of one training."""

    def __init__(self, job: Job, devices: tuple[str, ...], scratch: str) -> None:
        cores = int(ray.cluster_resources().get("CPU", 0)) // len(devices)
        self._words = job.words
        self._workers = WorkerGroup(
            lambda: work(job),
            Team(len(devices), cores, devices[0].startswith("cuda")),
            Judge(job.words),
            scratch,
            new_mark(TRAININGS),
            deaths=MOST_DEATHS,
            tries=MOST_DEATHS,
        )

    @property
    def working(self) -> bool:
        return self._workers.working

    def leave(self, worker: Any) -> None:
        """End what still runs. Without the queue the workers fail, and nothing starts them again.

        `worker`: the first one, if it is known. Waits until the group's thread has ended: where it lets go of
        something of Ray's (2.60) after Ray was shut down, that ends this whole process, without a word.
        """
        self._words.shutdown(force=True)
        if self.working and worker is not None:
            ray.kill(worker)
        self._workers.join(LEAVING_SECONDS)

    def raise_fault(self, folder: Path) -> None:
        """Raise what ended the group, if it was not the end of the training."""
        fault = self._workers.fault
        if fault is None:
            return
        if isinstance(fault, (TunekitError, WorkerFault)):
            raise fault
        what = (
            f"workers died {MOST_DEATHS + 1} times, as if memory ran out"
            if isinstance(fault, ray.train.WorkerGroupError)
            else f"the workers cannot be kept running: {first_words(fault)}"
        )
        raise TrainingError(f"{what}; {folder / 'ray.log'} has Ray's words; {_way_on(folder)}") from fault


def _queue() -> Queue:
    """A queue in a process of this machine, so that no other one's end takes it away."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def _last_epoch(folder: Path) -> int:
    """The epoch after which a new group goes on."""
    try:
        state = read_checkpoint(folder / "weights" / "last.pt").extra.get("training")
    except CheckpointError:
        return 0
    return int(state["epoch"]) if isinstance(state, dict) else 0


def _way_on(folder: Path) -> str:
    done = _last_epoch(folder)
    if not done:
        return "there is no checkpoint to go on with"
    return f"{done} epoch{'s are' if done > 1 else ' is'} done; go on with: tunekit train resume={folder}"
