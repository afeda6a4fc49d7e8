"""Worker processes that Ray Train starts, and starts again when one of them dies: a TorchTrainer in a thread.

In: what every worker runs, and with what. Out: whether they still run, and the fault that ended them.
`fit()` can neither report nor be stopped: what workers say, and how they end, is their owner's business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import ray.train
import ray.train.torch
from ray.exceptions import RayError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

from tunekit.training.place import free_places

LOOK_SECONDS = 0.5  # between Ray's looks at the workers
ECHO_SECONDS = 6 * LOOK_SECONDS  # within these it has noticed a death
# What Ray Train and its controller read from the environment.
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(LOOK_SECONDS),
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more, and deaths are noticed without it
}
FOR_EVER = -1


class WorkerFault(Exception):
    """A worker's fault that is not the user's to mend. Its text is what there is to tell of it."""


def first_words(fault: Exception) -> str:
    """What there is to tell of it, in a line."""
    if isinstance(fault, WorkerGroupStartupFailedError):  # its words are a traceback
        return "one of them died as they came up (killed, or out of memory?)"
    return (str(fault).splitlines() or [type(fault).__name__])[0]


@dataclass(frozen=True)
class Team:
    """`workers` processes with `cpus` cores each, and a GPU each where `cuda`."""

    workers: int
    cpus: int
    cuda: bool


class WorkerGroup:
    """A team at work from the moment it is made."""

    def __init__(
        self,
        loop: Callable[[], None],
        team: Team,
        judge: ray.train.UserCallback,
        scratch: str,
        mark: int,
        *,
        deaths: int = FOR_EVER,
        tries: int = 0,
    ) -> None:
        """Every worker runs `loop`. `judge` hears what ended one, and what it raises ends all.

        `deaths`: so many times all are started again; `tries`: so often when they do not come up. Not at all
        by default: when one of them dies as they first meet, Ray (2.60) keeps their place until this group
        has ended, and new ones would wait for it. `scratch`: an existing folder for Ray's own files. `mark`:
        of their place (place.py).
        """
        self._mark = mark
        self._trainer = ray.train.torch.TorchTrainer(
            loop,
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if team.cuda else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=team.workers,
                use_gpu=team.cuda,
                resources_per_worker={
                    "CPU": team.cpus,
                    "memory": self._mark,
                    **({"GPU": 1} if team.cuda else {}),
                },
            ),
            run_config=ray.train.RunConfig(
                name="train",
                storage_path=scratch,
                failure_config=ray.train.FailureConfig(
                    max_failures=deaths,
                    controller_failure_limit=tries,  # type: ignore[call-arg] # mypy sees an older one
                ),
                callbacks=[judge],  # type: ignore[list-item]
            ),
        )
        self.fault: Exception | None = None
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except Exception as fault:  # noqa: BLE001 - the owner's to tell
            self.fault = fault.controller_failure if isinstance(fault, ray.train.ControllerError) else fault
            with suppress(RayError):  # Ray itself may be gone
                # When its controller is killed Ray holds all of it.
                free_places(lambda mark: mark == self._mark)

    @property
    def found_no_room(self) -> bool:
        """Whether it ended because others had what it needs, for longer than Ray waits."""
        return isinstance(self.fault, WorkerGroupStartupTimeoutError)

    @property
    def working(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float) -> bool:
        """Wait until all have ended, so long at most; whether they have."""
        self._thread.join(seconds)
        return not self.working
