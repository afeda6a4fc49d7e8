"""What a tune will run, decided before anything runs: TuneArgs, space and data in, a Plan out.

Trial 0 is the defaults: exactly what `tunekit train` would do with the same arguments. Arguments the user
gave by name are fixed and leave the space, and so does what is searched only with other values of theirs.
Pure: reads no files, starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, SpaceError
from tunekit.search.space import Space, Value
from tunekit.search_args import TuneArgs
from tunekit.training.resolve import nominal_steps, resolve_auto

# Where a trial writes, what it shows, and how long all of them may take together, is the tune's business.
NOT_A_TRIALS = ("project", "name", "exist_ok", "resume", "plots", "verbose", "time")


@dataclass(frozen=True)
class Plan:
    """`base`: the arguments of every trial, before its own parameters. `notes`: what the user should know.
    `costs`: what of a trained model is to be measured (evaluation/cost.py)."""

    base: TrainArgs
    space: Space
    notes: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Those that trials may have."""
        return tuple(map(str, self.space.options("model"))) or (self.base.model,)

    def trial_args(self, params: dict[str, Value]) -> TrainArgs:
        """The arguments that a trial with `params` trains with."""
        return build_args(TrainArgs, {**self.base.model_dump(), **params})


def make_plan(args: TuneArgs, space: Space, nc: int, images: int, device: str, threads: int) -> Plan:
    """The plan of a new tune on `images` training images of `nc` classes."""
    given = args.model_fields_set
    notes = []
    fixed = [parameter.name for parameter in space.parameters if parameter.name in given]
    if fixed:
        if len(fixed) == len(space.parameters):
            raise ArgumentError(
                f"every parameter of the space {space.name} is given a value ({', '.join(fixed)}), so "
                "nothing is left to tune: leave some of them out"
            )
        values = {name: getattr(args, name) for name in fixed}
        left = space.given(values)
        note = "given, so not searched: " + ", ".join(f"{name}={value}" for name, value in values.items())
        kept = [*fixed, *(parameter.name for parameter in left.parameters)]
        idle = [parameter.name for parameter in space.parameters if parameter.name not in kept]
        notes.append(note + (f"; nor, as that is so: {', '.join(idle)}" if idle else ""))
        space = left

    searched = [parameter.name for parameter in space.parameters]
    if args.scheduler == "pbt" and "model" in searched:
        raise ArgumentError(
            "scheduler=pbt lets a trial go on from another one's weights, which another model cannot: give "
            "model=, so that it is not searched, or choose another scheduler"
        )
    if args.costs and "model" not in searched:
        raise ArgumentError(
            f"objectives={','.join(args.objectives)}: all trials have the same model here, and so the same "
            f"{' and '.join(args.costs)}: let the space choose the model, as space=scales does"
        )
    if args.cache == "gpu" and (args.copy_paste > 0 or "copy_paste" in searched):
        raise ArgumentError(
            "cache=gpu has no copy_paste: give copy_paste=0, so that it is not searched, or choose cache=disk"
        )
    settings = {
        name: getattr(args, name)
        for name in TrainArgs.model_fields
        if name not in (*NOT_A_TRIALS, "optimizer")
    }
    settings.update(device=device, threads=threads, plots=False)
    base = build_args(TrainArgs, {**settings, "optimizer": args.optimizer or "auto"})
    if args.optimizer is None:
        base, note = _resolved(base, space, given, nc, images)
        notes.append(note)
    return _with_base_priors(Plan(base, space, tuple(notes), args.costs))


def _resolved(base: TrainArgs, space: Space, given: set[str], nc: int, images: int) -> tuple[TrainArgs, str]:
    """`base` with what optimizer=auto stands for, but for what the user gave."""
    searched = {parameter.name: parameter for parameter in space.parameters}
    choice = resolve_auto(nc, nominal_steps(images, base))
    if "optimizer" in searched and searched["optimizer"].prior != choice.optimizer:
        # The space begins elsewhere, and auto's learning rate is meant for auto's optimizer only.
        start = searched["optimizer"].prior
        return base.model_copy(update={"optimizer": start}), f"optimizer: searched, beginning with {start}"
    auto: dict[str, Any] = {
        "lr0": choice.lr0,
        "momentum": choice.momentum,
        "warmup_bias_lr": choice.warmup_bias_lr,
    }
    auto = {name: value for name, value in auto.items() if name not in given}
    words = "".join(f" {name}={value:g}" for name, value in auto.items())
    return (
        base.model_copy(update={"optimizer": choice.optimizer, **auto}),
        f"optimizer: {choice.optimizer}{words} (what train's auto chooses here)",
    )


def _with_base_priors(plan: Plan) -> Plan:
    """The search begins at `base`, unless the space names a prior of its own or `base` is outside of it."""
    priors: dict[str, Value] = {}
    moved: dict[str, str] = {}
    for parameter in plan.space.parameters:
        if parameter.prior != TrainArgs.model_fields[parameter.name].default:
            continue
        value = getattr(plan.base, parameter.name)
        nearest = parameter.nearest(value)
        if nearest != value:
            moved[parameter.name] = (
                f"{parameter.name}={value} is outside of the space {plan.space.name}: trial 0 runs with "
                f"{nearest}"
            )
        priors[parameter.name] = nearest
    try:
        space = plan.space.with_priors(priors)
        defaults = space.defaults()
        notes = [note for name, note in moved.items() if name in defaults]
        plan = replace(plan, space=space, notes=(*plan.notes, *notes))
        plan.trial_args(defaults)
    except ArgumentError as fault:
        raise SpaceError(
            f"the defaults of the space {plan.space.name} cannot be trained with: {fault}"
        ) from fault
    return plan
