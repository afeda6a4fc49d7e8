"""`tunekit tune`: TuneArgs in, a finished (or interrupted) run folder out, as results.run.Run.

The story of a search, new or resumed: plan, folder, study, Ray, trials, confirmation, the answer. Everything
that must survive is in the run folder; a resume is a new Ray Tuner seeded from the study there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import yaml
from optuna.study import Study

from tunekit.args import TrainArgs
from tunekit.atomic import write_text
from tunekit.checks import build_args
from tunekit.cluster import joined
from tunekit.errors import RunFolderError
from tunekit.models.start import check_model
from tunekit.results.confirmation import verdict
from tunekit.results.folder import lock_run, new_run_folder, run_name
from tunekit.results.resume import resumed_args, resumed_run
from tunekit.results.run import Run
from tunekit.results.trials import trials_of
from tunekit.search.budget import Budget
from tunekit.search.grid import GridSampler
from tunekit.search.samplers import make_sampler
from tunekit.search.space import load_space
from tunekit.search.warm import Start
from tunekit.search_args import TuneArgs
from tunekit.training.distributed import check_together
from tunekit.tuning.answer import answer, as_typed
from tunekit.tuning.cluster import available
from tunekit.tuning.confirm import confirm
from tunekit.tuning.depot import in_use, open_depot
from tunekit.tuning.nodes import check_nodes
from tunekit.tuning.plan import Plan, make_plan
from tunekit.tuning.probe import probe_of
from tunekit.tuning.resources import Slots, plan_slots
from tunekit.tuning.schedulers import make_scheduler
from tunekit.tuning.sitting import Sitting
from tunekit.tuning.storage import Storage
from tunekit.tuning.study import check_same_data, create_study, handed_out, open_study
from tunekit.tuning.survey import Survey, survey_data
from tunekit.tuning.warm import warm_starts

SPACE = "space.yaml"
BASE = "trial_args.yaml"  # the arguments that all trials share, optimizer=auto written out
CHANGEABLE_ON_RESUME = (
    "iterations",
    "address",
    "stop",
    "time",
    "confirm",
    "finalists",
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
    models = _models(args, folder)
    for model in models:
        check_model(model, args.pretrained)
    data = survey_data(args)
    storage = _storage(args)
    if ray.is_initialized():
        project = Path(args.project) if folder is None else folder.parent
        check_nodes(args, models, data, probe_of(project, storage))
    plan = _stored_plan(args, folder, slots) if folder is not None else _new_plan(args, data, slots)
    starts: list[Start] = []
    if folder is None and args.warm_start is not None:
        starts, note = warm_starts(args.warm_start, plan.space, args.iterations)
        plan = replace(plan, notes=(*plan.notes, note))
    scheduler = make_scheduler(args, plan.base, plan.space, budget)
    sampler = make_sampler(args.sampler, plan.space, args.seed, args.steps)
    if isinstance(sampler, GridSampler):
        sampler.check_room(args.iterations)
    new = folder is None
    if folder is None:
        folder = _new_folder(args, plan, storage)
    folder = folder.resolve()
    with lock_run(folder):
        _write_call(folder, args, plan)
        if new:
            defaults = plan.space.defaults()
            study = create_study(folder, sampler, defaults, data.fingerprint(), plan.costs, starts)
        else:
            study = open_study(folder, sampler)
            check_same_data(folder, study, data.fingerprint())
        depot = None if storage is None else open_depot(folder, study, storage)
        _say(_opening(folder, args, plan, slots, data, study))
        sitting = Sitting(folder, args, plan, slots, machine, study, scheduler, budget, depot)
        told, trials = sitting.run(), trials_of(study)
        confirm(sitting, trials, storage, data.tested)
        from tunekit.results.importance_files import write_importance  # here: matplotlib takes a second

        weighed = write_importance(folder, trials, plan.space)
        _say("\n".join([*told, *answer(folder, trials, verdict(folder, trials), weighed)]))
    return Run(folder)


def _models(args: TuneArgs, folder: Path | None) -> tuple[str, ...]:
    """Those that trials may have: known before the plan is, as all are checked before anything runs."""
    if folder is None and "model" in args.model_fields_set:
        return (args.model,)
    space = load_space(args.space if folder is None else str(folder / SPACE))
    return tuple(map(str, space.options("model"))) or (args.model,)


def _storage(args: TuneArgs) -> Storage | None:
    """Where trials are kept, if not in the run folder; found to be usable from here."""
    if args.storage is None:
        return None
    storage = Storage(args.storage)
    storage.make()
    storage.check()
    return storage


def _new_folder(args: TuneArgs, plan: Plan, storage: Storage | None) -> Path:
    def taken(name: str) -> bool:
        return storage is not None and in_use(storage, name, args.exist_ok)

    model = plan.space.name if len(plan.models) > 1 else args.model
    name = run_name(args.name, model, args.data)
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
    if "latency" in args.costs:
        _check_same_machine(folder, recorded, here)
    base = build_args(TrainArgs, {**recorded, **here}, where=str(folder / BASE))
    return Plan(base, load_space(str(folder / SPACE)), costs=args.costs)


def _check_same_machine(folder: Path, recorded: dict[str, Any], here: dict[str, Any]) -> None:
    """RunFolderError where a latency would be another one than when the run began."""
    for name in ("device", "threads"):
        if recorded[name] != here[name]:
            raise RunFolderError(
                f"resume={folder}: latencies were measured with {name}={recorded[name]}, and with "
                f"{name}={here[name]} they cannot be compared: give {name}={recorded[name]}, or begin anew"
            )


def _write_call(folder: Path, args: TuneArgs, plan: Plan) -> None:
    """What a resume reads. args.yaml comes last: with it the folder is a run."""
    write_text(folder / SPACE, plan.space.to_yaml())
    write_text(folder / BASE, yaml.safe_dump(plan.base.model_dump(), sort_keys=False))
    call = args.model_copy(update={"resume": None})
    write_text(folder / "args.yaml", yaml.safe_dump(call.model_dump(), sort_keys=False))


def _opening(folder: Path, args: TuneArgs, plan: Plan, slots: Slots, data: Survey, study: Study) -> str:
    lines = [data.problems] if data.problems else []
    lines.append(
        f"{' or '.join(plan.models)} on {plan.base.data}: {data.training} training and {data.validation} "
        f"validation images, {len(data.names)} classes"
    )
    lines += plan.notes
    over = sum(trial.state.is_finished() for trial in handed_out(study))
    limits = [f"{name}={getattr(args, name):g}" for name in ("stop", "time") if getattr(args, name)]
    trials = f"{args.iterations} trials" + (f" at most ({', '.join(limits)})" if limits else "")
    trials += f" of {plan.base.epochs} epochs" + (f" ({over} done before)" if over else "")
    against = f" for {' against '.join(args.objectives)}" if plan.costs else ""
    lines.append(
        f"{trials}, {slots}; {args.sampler} over {len(plan.space.parameters)} hyperparameters{against}, "
        f"{args.scheduler} -> {as_typed(folder)}"
    )
    return "\n".join(lines)
