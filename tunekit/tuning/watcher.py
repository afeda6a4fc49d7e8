"""Ray Tune's events -> the display, the run folder's books, and the end before its time."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import ray
from optuna.study import Study
from optuna.trial import TrialState
from ray.exceptions import RayActorError
from ray.tune import Callback
from ray.util import placement_group_table

from tunekit.control import Control
from tunekit.tuning.books import Books
from tunekit.tuning.desk import Desk
from tunekit.tuning.display import Display
from tunekit.tuning.result import DEATHS_OF_A_TRIAL, lost_its_node
from tunekit.tuning.searcher import StudySearcher

ROOM_SECONDS = 60.0  # between looks whether no trial trains because there is no room
WORDS = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


class Ending(Exception):
    """Leaves Tune's loop; why is in Control."""


class Watcher(Callback):
    """Runs on the driver, between the trials' results."""

    def __init__(
        self,
        searcher: StudySearcher,
        study: Study,
        books: Books,
        display: Display,
        control: Control,
        desk: Desk,
    ) -> None:
        self._searcher, self._desk = searcher, desk
        self._began: float | None = time.monotonic()  # None: a trial trains, or why none does was told
        self._study, self._books, self._display, self._control = study, books, display, control
        self._dead: dict[int, set[object]] = defaultdict(set)  # a trial's actors since its last epoch

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called ten times a second or oftener: where a search is spoken to, and ends before its time."""
        with self._control.guarding():
            self._desk.serve()
            self._tell_news()  # in a population trials end while they rest
            self._books.catch_up()
        if self._began is not None and time.monotonic() > self._began + ROOM_SECONDS:
            self._began = time.monotonic()
            if _waits_for_room():
                self._began = None
                self._display.say(
                    "no trial could begin yet: others may be using the cluster (`ray status` tells)"
                )
        if not self._control.ending:
            return
        for trial in trials:
            # Not asked to stop: that would wait for the epoch. What a trial wrote is whole at any moment.
            if trial.temporary_state.ray_actor is not None:
                ray.kill(trial.temporary_state.ray_actor)
        raise Ending

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._allow(trial)
        number = trial.config["number"]
        self._display.began(number, self._searcher.shown(number))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bury(trial)
        self._allow(trial)
        self._display.say(f"trial {trial.config['number']}: its process broke off; it is started again")

    def _bury(self, trial: Any) -> int:
        """Count a death that is the trial's own; how many in a row there have been."""
        fault, dead = trial.get_pickled_error(), self._dead[trial.config["number"]]
        if not lost_its_node(fault):
            dead.add(getattr(fault, "actor_id", None) or object())  # once, whatever was asked of it
        return len(dead)

    def _allow(self, trial: Any) -> None:
        """Have Tune start it again as often as may still be."""
        trial.max_failures = trial.num_failures + DEATHS_OF_A_TRIAL - len(self._dead[trial.config["number"]])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._began = None
        if result.get("failed") or result.get("halted"):
            return
        self._dead.pop(result["number"], None)
        self._allow(trial)
        if result.get("note"):
            self._display.say(f"trial {result['number']}: {result['note']}")
        self._display.epoch(result["number"], result["epoch"], result["fitness"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._left(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune gives a trial up whose process dies before it is up, or with two calls in it: we may not."""
        if self._control.ending:
            return
        if self._bury(trial) <= DEATHS_OF_A_TRIAL:
            self._searcher.again(trial.trial_id)
            self._display.say(f"trial {trial.config['number']}: its process broke off; it is started again")
        else:
            self._searcher.died(trial.trial_id, _why(trial.get_pickled_error()))
        self._left(trial)

    def _left(self, trial: Any) -> None:
        """A trial has left its slot."""
        if self._control.ending:
            return
        with self._control.guarding():
            number = trial.config["number"]
            if number not in self._display.board.lines:  # its process never came up
                self._display.began(number, self._searcher.shown(number))
            self._display.rests(number)
            self._tell_news()

    def _tell_news(self) -> None:
        for number in self._searcher.news():
            frozen = self._study.get_trials(deepcopy=False)[number]
            self._books.update()
            self._display.ended(number, WORDS[frozen.state], frozen.user_attrs.get("reason", ""))

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles it for a restore that is not ours."""
        return {}


def _waits_for_room() -> bool:
    """Whether a trial waits, or its workers do, while the trial itself is there."""
    return any(group["state"] == "PENDING" for group in placement_group_table().values())


def _why(fault: Exception | None) -> str:
    if fault is None or isinstance(fault, RayActorError):
        return f"its process died {DEATHS_OF_A_TRIAL + 1} times in a row (killed, or out of memory?)"
    last = f"{type(fault).__name__}: {str(fault).splitlines()[0]}"
    return f"its process broke off {DEATHS_OF_A_TRIAL + 1} times in a row, last: {last}"
