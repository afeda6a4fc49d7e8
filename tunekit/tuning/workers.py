"""Trials on several workers each: a worker group that stays up while one trial after another trains on it.

To start a group takes half a minute, to begin a trial on one that is up a fraction of a second. `Crew` is the
trial's side, `serve` what every worker runs; a mailbox is between them. A worker asks for each epoch, so that
a trial that is stopped is one that nobody orders more epochs of.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunekit.errors import TunekitError
from tunekit.training.group import (
    ECHO_SECONDS,
    LOOK_SECONDS,
    SETTINGS,
    Team,
    WorkerFault,
    WorkerGroup,
    first_words,
)
from tunekit.training.place import SLOTS, free_places, new_mark
from tunekit.tuning.mailbox import Mailbox, Order
from tunekit.tuning.result import Result, lost_its_node, told

LEAVING_SECONDS = 60.0
MAILBOX = "tunekit mailbox "  # and the mark of the slot's workers' place: the mailbox's name in this job


class Crew:
    """The workers of one slot of the search."""

    def __init__(self, team: Team, directory: Path | None) -> None:
        """`directory`: where relative paths are meant from, None: where the workers are."""
        os.environ.update(SETTINGS)  # this process belongs to the slot
        self._mark = new_mark(SLOTS)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        made = ray.remote(Mailbox).options(
            name=f"{MAILBOX}{self._mark}", num_cpus=0, scheduling_strategy=here
        )
        mailbox: Any = made.remote(team.workers, ECHO_SECONDS)
        free_places(is_orphan)
        self._mailbox, self._team, self._directory = mailbox, team, directory
        self._scratch = tempfile.TemporaryDirectory(prefix="tunekit-")
        self._group = self._started()

    def _started(self) -> WorkerGroup:
        """Workers that take up the order that stands."""
        mailbox, directory = self._mailbox, self._directory
        return WorkerGroup(
            lambda: serve(mailbox, directory),
            self._team,
            Witness(mailbox, self._team.workers),
            tempfile.mkdtemp(dir=self._scratch.name),
            self._mark,
        )

    def train(self, order: Order) -> Result:
        """Have an epoch trained; its result.

        Ray starts workers again that die, but what it does that with may die, too, or not get them up: then
        there are new ones. Raises RayActorError when the mailbox is gone.
        """
        coming = [self._mailbox.train.remote(order)]
        while not ray.wait(coming, timeout=LOOK_SECONDS)[0]:
            if self._group.working:
                continue
            if not self._group.found_no_room:
                fault = self._group.fault or RuntimeError("they have ended")
                ray.get(self._mailbox.death.remote(f"the workers were gone: {first_words(fault)}"))
            self._group = self._started()
        return ray.get(coming[0])

    def close(self) -> None:
        """Let the workers go."""
        with suppress(RayError):  # it may be gone, and then so are they
            ray.get(self._mailbox.close.remote())
            self._group.join(LEAVING_SECONDS)
            ray.kill(self._mailbox)
        self._scratch.cleanup()


def is_orphan(mark: int) -> bool:
    """Whether it is of a slot that died while its workers came up: one that lives has its mailbox."""
    if mark not in SLOTS:
        return False
    try:
        ray.get_actor(f"{MAILBOX}{mark}")
    except ValueError:
        return True
    return False


class Witness(ray.train.UserCallback):
    """Runs in Ray's controller of the group: tells the mailbox how workers ended, before new ones start."""

    def __init__(self, mailbox: Any, workers: int) -> None:
        self._mailbox, self._workers = mailbox, workers

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        # A TunekitError is known to the mailbox already, and a fault beside a death is its echo.
        ended = {
            rank: fault for rank, fault in worker_exceptions.items() if not isinstance(fault, TunekitError)
        }
        dead = {rank: fault for rank, fault in ended.items() if not isinstance(fault, WorkerFault)} or ended
        if dead:
            who = " and ".join(str(rank + 1) for rank in dead)
            what = f"worker {who} of {self._workers} {_ending(next(iter(dead.values())))}"
            counts = not all(lost_its_node(_cause(fault)) for fault in dead.values())
            ray.get(self._mailbox.death.remote(what, counts))


def _cause(fault: Exception) -> Exception:
    cause: Exception = vars(fault).get("health_check_failure", fault)  # Ray Train's wrapper is not public
    return cause


def _preempted(fault: Exception) -> bool:
    """Whether the worker's node was taken away, as had been announced."""
    cause = _cause(fault)
    return isinstance(cause, RayActorError) and cause.preempted


def _ending(fault: Exception) -> str:
    if _preempted(fault):
        return "lost its node, which was taken away as announced"
    if lost_its_node(_cause(fault)):
        return "lost its node"
    if type(fault).__module__.partition(".")[0] == "ray":  # some are no RayError
        return "died (killed, or out of memory?)"
    return f"broke off: {first_words(fault)}"


def serve(mailbox: Any, directory: Path | None) -> None:
    """A worker's whole life: it trains what is ordered, an epoch at a time."""
    from tunekit.training.ranks import Ranks  # here: who only orders needs no trainer
    from tunekit.tuning.training import Training

    if directory is not None:
        os.chdir(directory)
    context = ray.train.get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    mine = {"device": str(ray.train.torch.get_device()), "workers": ranks.world}
    training: Training | None = None
    place = ray.get(mailbox.standing.remote())
    while (order := ray.get(mailbox.order.remote(place))) is not None:
        try:
            if training is not None and training.folder != order.folder:
                training.close()
                training = None
            if training is None:
                here = replace(order, args=order.args.model_copy(update=mine))
                training = Training(here, ranks)
            result = training.next()
        except Exception as fault:  # whatever it is, it is this trial's, not the search's
            if training is not None:
                training.close()
                training = None
            result, known = told(fault), isinstance(fault, TunekitError)
            if not ray.get(mailbox.fault.remote(place, ranks.rank, result, known)):
                if known:
                    raise
                raise WorkerFault(result["failed"]) from fault
        else:
            if ranks.first:
                ray.get(mailbox.answer.remote(place, result))
        place += 1
    if training is not None:
        training.close()
