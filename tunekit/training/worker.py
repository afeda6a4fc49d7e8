"""One of the processes that train a model together, and who judges their faults: what runs inside Ray Train.

In: a Job. Out, through its queue: what the first worker says and records. Every worker has an engine of its
own and runs the same session; only the first is heard. When one fails, Ray starts all of them again, unless
Judge says no.
"""

from __future__ import annotations

import os
import time
import traceback
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray import cloudpickle
from ray.util.queue import Queue

from tunekit.args import TrainArgs
from tunekit.errors import TunekitError
from tunekit.training.device import available_cores
from tunekit.training.group import ECHO_SECONDS, WorkerFault
from tunekit.training.ranks import Ranks


@dataclass(frozen=True)
class Job:
    """All that a worker is told."""

    args: TrainArgs
    folder: Path
    resume: bool
    directory: Path  # the user's working directory, which relative paths are meant from
    words: Queue  # takes lines for the user, EpochResults, Began and Died, as `tell` puts them


@dataclass(frozen=True)
class Began:
    """A group is up and has built its engines."""

    args: TrainArgs  # with all that was left open
    worker: Any  # the first one's actor


@dataclass(frozen=True)
class Died:
    """The numbers of the workers, from 1, whose processes are gone."""

    workers: tuple[int, ...]


def tell(words: Queue, word: object) -> None:
    """Pickled: to hold an EpochResult itself, the queue's own process would import torch, for seconds."""
    words.put(cloudpickle.dumps(word))


def told(words: Queue, seconds: float) -> Any:
    """The next word; raises queue.Empty when none comes in so many seconds."""
    return cloudpickle.loads(words.get(timeout=seconds))


def work(job: Job) -> None:
    """A worker's whole life."""
    from tunekit.training.engine import Engine  # here: who only starts workers needs no trainer
    from tunekit.training.finish import draw_beginning
    from tunekit.training.session import run_session

    os.chdir(job.directory)
    context = ray.train.get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    mine = {
        "device": str(ray.train.torch.get_device()),
        "workers": ranks.world,
        "threads": job.args.threads or max(available_cores() // context.get_local_world_size(), 1),
    }
    try:
        with closing(Engine(job.args.model_copy(update=mine), ranks)) as engine:
            # A group that follows one that died finds more than there was at the beginning.
            resume = ranks.decide(lambda: job.resume or (job.folder / "weights" / "last.pt").exists())
            if ranks.first:
                tell(job.words, Began(engine.args, ray.get_runtime_context().current_actor))
                if engine.args.plots and not resume:
                    draw_beginning(engine, job.folder)
            say = partial(tell, job.words)
            run_session(engine, job.folder, resume=resume, say=say, on_epoch=say if ranks.first else None)
    except TunekitError:
        raise
    except Exception:  # noqa: BLE001 - told with its traceback
        # Perhaps the echo of another worker's death. Ray is about to notice that one, and ends this one then.
        time.sleep(ECHO_SECONDS)
        raise WorkerFault(traceback.format_exc()) from None


class Judge(ray.train.UserCallback):
    """Runs in Ray's controller of the group. What it raises ends the training; else the group starts again.

    Only a death is worth that: a mistake would be made again.
    """

    def __init__(self, words: Queue) -> None:
        self._words = words

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for fault in worker_exceptions.values():
            if isinstance(fault, TunekitError):
                raise fault
        dead = [rank + 1 for rank, fault in worker_exceptions.items() if not isinstance(fault, WorkerFault)]
        if not dead:
            raise next(iter(worker_exceptions.values()))
        tell(self._words, Died(tuple(dead)))
