"""One sitting of a search: what is left of its trials runs on Ray, is watched and written down.

In: a search that is planned, its study and its folder. Out: a folder in order, and why the search ended early
if it did. Whatever ends it otherwise is raised once everything is in order.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import ray
from optuna.study import Study
from optuna.trial import FrozenTrial
from ray import tune as ray_tune
from rich.console import Console

from tunekit.cluster import LOST, is_client, is_loss, user_directory
from tunekit.control import Control
from tunekit.errors import ResourceError, TrainingError, TunekitError
from tunekit.search.budget import Budget
from tunekit.search.grid import GridSampler
from tunekit.search_args import TuneArgs
from tunekit.terminal import chatter_to
from tunekit.training.group import Team
from tunekit.tuning.answer import as_typed, early
from tunekit.tuning.board import Board
from tunekit.tuning.books import Books
from tunekit.tuning.client import run_trials
from tunekit.tuning.cluster import running_ray
from tunekit.tuning.depot import Depot
from tunekit.tuning.descent import FOLDER as POPULATION
from tunekit.tuning.descent import Snapshots
from tunekit.tuning.desk import Desk
from tunekit.tuning.display import Display
from tunekit.tuning.plan import Plan
from tunekit.tuning.population import PopulationSearcher
from tunekit.tuning.pulse import feeling
from tunekit.tuning.resources import Machine, Slots
from tunekit.tuning.result import DEATHS_OF_A_TRIAL
from tunekit.tuning.schedulers import StopLosers
from tunekit.tuning.searcher import StudySearcher
from tunekit.tuning.storage import Storage
from tunekit.tuning.study import best_value, handed_out
from tunekit.tuning.trial import Job, TuneTrial
from tunekit.tuning.watcher import WORDS, Watcher


@dataclass(frozen=True)
class Sitting:
    """Of the search in `folder`, which is locked. `depot`: where its trials are kept, if not there."""

    folder: Path
    args: TuneArgs
    plan: Plan
    slots: Slots
    machine: Machine
    study: Study
    scheduler: StopLosers
    budget: Budget
    depot: Depot | None

    def run(self) -> list[str]:
        """What is to be said if the budget ended the search early."""
        control, snapshots = Control(), self._snapshots()
        searcher = self._searcher(control, snapshots)
        before = handed_out(self.study)  # with all epochs that the folder has, which the searcher has told it
        self.scheduler.replay(searcher.curves())
        books = self._books()
        if searcher.left and not searcher.spent and not control.ending:
            self.scheduler.listen(searcher.curve)
            self._run_trials(searcher, snapshots, books, self._board(before, searcher), control)
        if control.ending:
            self._break_off(control, books)
        told = early(self.folder, self.args, searcher)  # not when pictures are drawn: more time is over then
        books.update(final=True)
        return told

    @property
    def _place(self) -> Path:
        """Where the study is, and the trials are."""
        return self.folder

    @property
    def _columns(self) -> list[str]:
        """What the table shows of a trial, most telling first."""
        return [parameter.name for parameter in self.plan.space.parameters]

    def _books(self) -> Books:
        return Books(self.folder, self.study, self.depot)

    def _snapshots(self) -> Snapshots | None:
        """Where a population keeps what its children begin with."""
        if self.scheduler.population is None:
            return None
        storage = Storage(str(self.folder)) if self.depot is None else self.depot.storage
        return Snapshots(self.scheduler.population.points, storage.below(POPULATION))

    def _searcher(self, control: Control, snapshots: Snapshots | None) -> StudySearcher:
        if self.scheduler.population is None or snapshots is None:
            return StudySearcher(
                self.study,
                self.plan.space,
                self.folder,
                iterations=self.args.iterations,
                concurrent=self.slots.concurrent,
                budget=self.budget,
                control=control,
                depot=self.depot,
            )
        return PopulationSearcher(
            self.study,
            self.plan.space,
            self.folder,
            self.scheduler.population,
            snapshots,
            seed=self.args.seed,
            concurrent=self.slots.concurrent,
            budget=self.budget,
            control=control,
            depot=self.depot,
        )

    def _run_trials(
        self,
        searcher: StudySearcher,
        snapshots: Snapshots | None,
        books: Books,
        board: Board,
        control: Control,
    ) -> None:
        """Until all have ended, or `control` says why not."""
        desk = Desk(self.folder, self.plan.space, searcher, self.scheduler, board, control)
        with chatter_to(self.folder / "ray.log") as terminal, control.catching_interrupts():
            display = Display(Console(file=terminal), board, self._columns)
            watcher = Watcher(searcher, self.study, books, display, control, desk)
            with (
                display,
                running_ray(self.slots, self.machine),
                self._head_felt(control, display),
                tempfile.TemporaryDirectory(prefix="tunekit-") as scratch,
            ):
                try:
                    run_trials(
                        self._trainable(snapshots),
                        ray_tune.TuneConfig(
                            search_alg=searcher,
                            scheduler=self.scheduler,
                            num_samples=-1,  # the searcher knows
                            reuse_actors=True,
                            trial_dirname_creator=lambda trial: str(trial.config["number"]),
                        ),
                        ray_tune.RunConfig(
                            name="tune",
                            storage_path=scratch,
                            verbose=0,
                            callbacks=[watcher],
                            # Trials keep their own.
                            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
                            failure_config=ray_tune.FailureConfig(max_failures=DEATHS_OF_A_TRIAL),
                        ),
                    )
                except Exception as fault:
                    if is_loss(fault):  # and the cluster ends the trials
                        control.fault = control.fault or ResourceError(LOST)
                    elif not control.ending:
                        raise RuntimeError(
                            f"Ray Tune ended the search; its words are in {self.folder / 'ray.log'}"
                        ) from fault

    def _trainable(self, snapshots: Snapshots | None) -> object:
        stored = None if self.depot is None else self.depot.storage
        job = Job(self._place, self.plan, user_directory(), self._team(), stored, snapshots)
        return ray_tune.with_resources(ray_tune.with_parameters(TuneTrial, job=job), self._actor_share())

    def _team(self) -> Team | None:
        """The workers of a slot where it has several."""
        slots = self.slots
        if slots.workers == 1:
            return None
        return Team(slots.workers, slots.cpus, slots.device.startswith("cuda"))

    def _actor_share(self) -> dict[str, float]:
        """What a trial's actor itself computes with. Workers have their own share: an actor that held some of
        it while its workers wait for theirs could make all of them wait for each other."""
        if self.slots.workers == 1:
            return {"cpu": self.slots.cpus, "gpu": self.slots.gpus}
        return {"cpu": 0, "memory": 1}  # a byte: Tune refuses to reserve nothing

    def _board(self, before: list[FrozenTrial], searcher: StudySearcher) -> Board:
        """The table as earlier sittings left it."""
        sampler, total = self.study.sampler, self.args.iterations
        if isinstance(sampler, GridSampler):
            waiting = len(self.study.get_trials(deepcopy=False)) - len(before)
            total = min(total, len(before) + waiting + sampler.left(self.study))
        board = Board(
            total,
            self.plan.base.epochs,
            self.slots.concurrent,
            deadline=self.budget.deadline,
        )
        for trial in before:
            line = board.began(trial.number, searcher.shown(trial.number))
            line.epoch = max(trial.intermediate_values, default=0)
            line.best = best_value(trial)
            line.state = WORDS.get(trial.state, "waiting")
            line.reason = trial.user_attrs.get("reason", "")
        return board

    def _head_felt(self, control: Control, display: Display) -> AbstractContextManager[None]:
        """A search whose cluster loses its head ends: in order if Ray's calls return, or with last words."""
        if is_client():
            return nullcontext()  # Ray notices, and says so
        address = ray.get_runtime_context().gcs_address
        fault = TrainingError(f"the Ray cluster's head at {address} does not answer any more: start it again")

        def end() -> None:
            control.fault = control.fault or fault

        def leave() -> None:
            display.stop()
            display.say(f"error: {self._with_way_on(fault)}")
            os._exit(fault.exit_code)

        return feeling(address, end, leave)

    def _break_off(self, control: Control, books: Books) -> None:
        if control.interrupted:
            books.update(final=True)
            print(f"interrupted; go on with: {self._resume}", flush=True)
            raise KeyboardInterrupt
        if isinstance(control.fault, TunekitError):
            raise type(control.fault)(self._with_way_on(control.fault)) from control.fault
        assert control.fault is not None
        raise control.fault

    def _with_way_on(self, fault: TunekitError) -> str:
        return f"{fault}; then go on with: {self._resume}"

    @property
    def _resume(self) -> str:
        return f"tunekit tune resume={as_typed(self.folder)}"
