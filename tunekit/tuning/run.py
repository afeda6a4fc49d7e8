"""`tunekit tune`: TuneArgs in, a finished (or interrupted) run folder out, as results.run.Run.

The story of a search, new or resumed: plan, folder, study, Ray, trials, the answer. Everything that must
survive is in the run folder; a resume is a new Ray Tuner seeded from the study there.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import ray
import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial
from ray import tune as ray_tune
from rich.console import Console

from tunekit.args import TrainArgs
from tunekit.atomic import write_text
from tunekit.checks import build_args
from tunekit.cluster import is_client, joined, user_directory
from tunekit.control import Control
from tunekit.errors import ResourceError, RunFolderError, TrainingError, TunekitError
from tunekit.models.start import check_model
from tunekit.results.folder import lock_run, new_run_folder, run_name
from tunekit.results.resume import resumed_args, resumed_run
from tunekit.results.run import Run
from tunekit.results.trials import trials_of
from tunekit.search.budget import Budget
from tunekit.search.samplers import make_sampler
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.terminal import chatter_to
from tunekit.training.distributed import check_together
from tunekit.training.group import Team
from tunekit.tuning.answer import answer, as_typed, early
from tunekit.tuning.board import Board
from tunekit.tuning.books import Books
from tunekit.tuning.client import run_trials
from tunekit.tuning.cluster import available, running_ray
from tunekit.tuning.depot import Depot, in_use, open_depot
from tunekit.tuning.desk import Desk
from tunekit.tuning.display import Display
from tunekit.tuning.nodes import check_nodes
from tunekit.tuning.plan import Plan, make_plan
from tunekit.tuning.probe import probe_of
from tunekit.tuning.pulse import feeling
from tunekit.tuning.resources import Machine, Slots, plan_slots
from tunekit.tuning.result import DEATHS_OF_A_TRIAL
from tunekit.tuning.schedulers import StopLosers, make_scheduler
from tunekit.tuning.searcher import StudySearcher
from tunekit.tuning.storage import Storage
from tunekit.tuning.study import best_value, check_same_data, create_study, handed_out, open_study
from tunekit.tuning.survey import Survey, survey_data
from tunekit.tuning.trial import Job, TuneTrial
from tunekit.tuning.watcher import WORDS, Watcher

BASE = "trial_args.yaml"  # the arguments that all trials share, optimizer=auto written out
CHANGEABLE_ON_RESUME = (
    "iterations",
    "address",
    "stop",
    "time",
    "concurrent",
    "workers",
    "cpus",
    "gpus",
    "device",
    "threads",
    "loader_workers",
    "lanes",
    "cache",
)


def tune(args: TuneArgs) -> Run:
    """Search until `iterations` trials are done, or `stop` or `time` end it; returns the run.

    Raises TunekitError for what the user can mend, KeyboardInterrupt after Ctrl-C; in both cases the folder
    is whole and `resume=` goes on with it.
    """
    folder = resumed_run(args)
    if folder is not None:
        args = resumed_args(args, folder, CHANGEABLE_ON_RESUME)
    with joined(args.address):
        return _tune(args, folder)


def _tune(args: TuneArgs, folder: Path | None) -> Run:
    budget = Budget(args.stop, args.time)
    machine = available()
    slots = plan_slots(args, machine)
    check_together(args, slots.device, slots.workers)
    check_model(args.model, args.pretrained)
    data = survey_data(args)
    storage = _storage(args)
    if ray.is_initialized():
        project = Path(args.project) if folder is None else folder.parent
        check_nodes(args, data, probe_of(project, storage))
    plan = _stored_plan(args, folder, slots) if folder is not None else _new_plan(args, data, slots)
    scheduler = make_scheduler(args, plan.base, budget)
    new = folder is None
    if folder is None:
        folder = _new_folder(args, storage)
    folder = folder.resolve()
    with lock_run(folder):
        _write_call(folder, args, plan)
        sampler = make_sampler(args.sampler, plan.space, args.seed)
        if new:
            study = create_study(folder, sampler, plan.space.defaults(), data.fingerprint())
        else:
            study = open_study(folder, sampler)
            check_same_data(folder, study, data.fingerprint())
        depot = None if storage is None else open_depot(folder, study, storage)
        _say(_opening(folder, args, plan, slots, data, study))
        told = _search(folder, args, plan, slots, machine, study, scheduler, budget, depot)
        _say("\n".join([*told, *answer(folder, trials_of(study))]))
    return Run(folder)


def _storage(args: TuneArgs) -> Storage | None:
    """Where trials are kept, if not in the run folder; found to be usable from here."""
    if args.storage is None:
        return None
    storage = Storage(args.storage)
    storage.make()
    storage.check()
    return storage


def _new_folder(args: TuneArgs, storage: Storage | None) -> Path:
    def taken(name: str) -> bool:
        return storage is not None and in_use(storage, name, args.exist_ok)

    name = run_name(args.name, args.model, args.data)
    return new_run_folder(args.project, name, args.exist_ok, taken)


def _say(text: str) -> None:
    print(text, flush=True)


def _new_plan(args: TuneArgs, data: Survey, slots: Slots) -> Plan:
    space = load_space(args.space)
    threads = args.threads or slots.cpus
    return make_plan(args, space, len(data.names), data.training, slots.device, threads)


def _stored_plan(args: TuneArgs, folder: Path, slots: Slots) -> Plan:
    """The plan the run began with, on the machine as it is now."""
    try:
        recorded = yaml.safe_load((folder / BASE).read_text())
    except (OSError, yaml.YAMLError) as fault:
        raise RunFolderError(f"resume={folder}: {folder / BASE} cannot be read ({fault})") from fault
    here = {
        "device": slots.device,
        "threads": args.threads or slots.cpus,
        "workers": args.workers,
        "loader_workers": args.loader_workers,
        "lanes": args.lanes,
        "cache": args.cache,
    }
    base = build_args(TrainArgs, {**recorded, **here}, where=str(folder / BASE))
    return Plan(base, load_space(str(folder / "space.yaml")))


def _write_call(folder: Path, args: TuneArgs, plan: Plan) -> None:
    """What a resume reads. args.yaml comes last: with it the folder is a run."""
    write_text(folder / "space.yaml", plan.space.to_yaml())
    write_text(folder / BASE, yaml.safe_dump(plan.base.model_dump(), sort_keys=False))
    call = args.model_copy(update={"resume": None})
    write_text(folder / "args.yaml", yaml.safe_dump(call.model_dump(), sort_keys=False))


def _search(
    folder: Path,
    args: TuneArgs,
    plan: Plan,
    slots: Slots,
    machine: Machine,
    study: Study,
    scheduler: StopLosers,
    budget: Budget,
    depot: Depot | None,
) -> list[str]:
    """Run what is left of the trials. What is to be said if the budget ended it early; any other early end is
    raised once everything is in order."""
    control = Control()
    searcher = StudySearcher(
        study,
        plan.space,
        folder,
        iterations=args.iterations,
        concurrent=slots.concurrent,
        budget=budget,
        control=control,
        depot=depot,
    )
    before = handed_out(study)  # with all epochs that the folder has, which the searcher has told it
    scheduler.replay({trial.number: trial.intermediate_values for trial in before})
    books = Books(folder, study, depot)
    if (not searcher.left or searcher.spent) and not control.ending:
        books.update(final=True)
        return early(folder, args, searcher)
    scheduler.listen(searcher.curve)
    board = _board(args, plan, slots, before, budget)
    desk = Desk(folder, plan.space, searcher, scheduler, board, control)
    with chatter_to(folder / "ray.log") as terminal, control.catching_interrupts():
        display = Display(
            Console(file=terminal), board, [parameter.name for parameter in plan.space.parameters]
        )
        with (
            display,
            running_ray(slots, machine),
            _head_felt(folder, control, display),
            tempfile.TemporaryDirectory(prefix="tunekit-") as scratch,
        ):
            stored = None if depot is None else depot.storage
            job = Job(folder, plan, user_directory(), _team(slots), stored)
            trainable = ray_tune.with_parameters(TuneTrial, job=job)
            try:
                run_trials(
                    ray_tune.with_resources(trainable, _actor_share(slots)),
                    ray_tune.TuneConfig(
                        search_alg=searcher,
                        scheduler=scheduler,
                        num_samples=-1,  # the searcher knows
                        reuse_actors=True,
                        trial_dirname_creator=lambda trial: str(trial.config["number"]),
                    ),
                    ray_tune.RunConfig(
                        name="tune",
                        storage_path=scratch,
                        verbose=0,
                        callbacks=[Watcher(searcher, study, books, display, control, desk)],
                        checkpoint_config=ray_tune.CheckpointConfig(
                            checkpoint_at_end=False
                        ),  # trials keep their own
                        failure_config=ray_tune.FailureConfig(max_failures=DEATHS_OF_A_TRIAL),
                    ),
                )
            except ConnectionError:  # a client's, after half a minute of tries; the cluster ends its trials
                lost = "the connection to the cluster is lost: see that its head can be reached"
                control.fault = control.fault or ResourceError(lost)
            except Exception as fault:
                if not control.ending:
                    raise RuntimeError(
                        f"Ray Tune ended the search; its words are in {folder / 'ray.log'}"
                    ) from fault
    if control.ending:
        _break_off(folder, control, books)
    told = early(folder, args, searcher)  # now, and not when pictures have been drawn and more time is over
    books.update(final=True)
    return told


def _head_felt(folder: Path, control: Control, display: Display) -> AbstractContextManager[None]:
    """A search whose cluster loses its head ends: in order if Ray's calls return, else with last words."""
    if is_client():
        return nullcontext()  # Ray notices, and says so
    address = ray.get_runtime_context().gcs_address
    fault = TrainingError(f"the Ray cluster's head at {address} does not answer any more: start it again")

    def end() -> None:
        control.fault = control.fault or fault

    def leave() -> None:
        display.stop()
        display.say(f"error: {_with_way_on(fault, folder)}")
        os._exit(fault.exit_code)

    return feeling(address, end, leave)


def _team(slots: Slots) -> Team | None:
    """The workers of a slot where it has several."""
    if slots.workers == 1:
        return None
    return Team(slots.workers, slots.cpus, slots.device.startswith("cuda"))


def _actor_share(slots: Slots) -> dict[str, float]:
    """What a trial's actor itself computes with. Workers have their own share: an actor that held some of it
    while its workers wait for theirs could make all of them wait for each other."""
    if slots.workers == 1:
        return {"cpu": slots.cpus, "gpu": slots.gpus}
    return {"cpu": 0, "memory": 1}  # a byte: Tune refuses to reserve nothing


def _board(args: TuneArgs, plan: Plan, slots: Slots, before: list[FrozenTrial], budget: Budget) -> Board:
    """The table as earlier sittings of this search left it."""
    board = Board(args.iterations, plan.base.epochs, slots.concurrent, deadline=budget.deadline)
    for trial in before:
        line = board.began(trial.number, trial.params)
        line.epoch = max(trial.intermediate_values, default=0)
        line.best = best_value(trial)
        line.state = WORDS.get(trial.state, "waiting")
        line.reason = trial.user_attrs.get("reason", "")
    return board


def _break_off(folder: Path, control: Control, books: Books) -> None:
    if control.interrupted:
        books.update(final=True)
        _say(f"interrupted; go on with: {_resume(folder)}")
        raise KeyboardInterrupt
    if isinstance(control.fault, TunekitError):
        raise type(control.fault)(_with_way_on(control.fault, folder)) from control.fault
    assert control.fault is not None
    raise control.fault


def _with_way_on(fault: TunekitError, folder: Path) -> str:
    return f"{fault}; then go on with: {_resume(folder)}"


def _resume(folder: Path) -> str:
    return f"tunekit tune resume={as_typed(folder)}"


def _opening(folder: Path, args: TuneArgs, plan: Plan, slots: Slots, data: Survey, study: Study) -> str:
    lines = [data.problems] if data.problems else []
    lines.append(
        f"{plan.base.model} on {plan.base.data}: {data.training} training and {data.validation} validation "
        f"images, {len(data.names)} classes"
    )
    lines += plan.notes
    over = sum(trial.state.is_finished() for trial in handed_out(study))
    limits = [f"{name}={getattr(args, name):g}" for name in ("stop", "time") if getattr(args, name)]
    trials = f"{args.iterations} trials" + (f" at most ({', '.join(limits)})" if limits else "")
    trials += f" of {plan.base.epochs} epochs" + (f" ({over} done before)" if over else "")
    lines.append(
        f"{trials}, {slots}; {args.sampler} over {len(plan.space.parameters)} hyperparameters, "
        f"{args.scheduler} -> {as_typed(folder)}"
    )
    return "\n".join(lines)
