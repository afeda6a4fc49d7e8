"""Every argument of `tunekit tune`: as in args.py, each one once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo, field_validator, model_validator

from tunekit.args import OPTIMIZERS, TrainArgs
from tunekit.fields import (
    OptionalFloat,
    OptionalInt,
    OptionalStr,
    arg,
    none_if_word,
    reachable,
    setting,
    words,
)

WHY_NOT_IN_A_SEARCH = {
    "lr_batch": "lr0 is searched itself: it needs no scaling",
    "save": "a search needs its trials' weights, to stop, resume and keep the best",
    "val": "a search compares trials by validation after every epoch",
    "profile": "profile one training instead: tunekit train",
    "save_json": "ask the best model for its detections instead: tunekit val save_json=True",
    "save_period": "trials keep their last and best weights only",
}

WITHOUT = {  # schedulers that an argument is not for
    "grace": ("none",),
    "reduction": ("forecast", "median", "pbt", "none"),
    "interval": ("forecast", "asha", "hyperband", "median", "none"),
    "stop": ("pbt",),
    "finalists": ("pbt",),
}

SAMPLERS = ("auto", "genetic", "tpe", "cmaes", "gp", "priorband", "nsga2", "random", "grid")
OBJECTIVES = ("fitness", "parameters", "gflops", "latency")
MOST_OBJECTIVES = 3
# What is left out means this where there are several objectives; anything else looks at the fitness alone.
FOR_SEVERAL: dict[str, Any] = {"sampler": "nsga2", "scheduler": "none", "confirm": 0}
SAMPLERS_FOR_SEVERAL = ("nsga2", "random", "grid")
WHY_NOT_FOR_SEVERAL = {
    "scheduler": "it stops trials by their fitness, and so the small models",
    "confirm": "it compares trials by their fitness",
    "finalists": "they are the best by their fitness",
    "stop": "it looks for a better fitness",
}

CONFIRMED_FROM = 30  # iterations; a shorter search is a look


class TuneArgs(TrainArgs):
    """Arguments of `tunekit tune`: all of train's, and those of the search."""

    iterations: int = arg(
        100,
        "search",
        "trials in all, the defaults' one included; with pbt those that train side by side",
        ge=1,
    )
    time: OptionalFloat = arg(
        None,
        "search",
        "hours for the search: then no trial begins, and those that run end after their epoch; a resumed"
        " search has them anew: what it took before does not count, nor does the confirmation after it",
        gt=0,
    )
    space: str = setting(
        "default",
        "search",
        "a search space: default, quick, augment, scales (quick, and the model) or your own YAML",
    )
    objectives: Annotated[tuple[Literal[OBJECTIVES], ...], BeforeValidator(words)] = setting(  # type: ignore[valid-type]
        OBJECTIVES[:1],
        "search",
        "what is searched for: fitness, and up to two costs that are to be low, which the model decides:"
        " parameters (millions), gflops (at imgsz), latency (ms an image at batch 1, on the trial's device)",
    )
    sampler: Literal[SAMPLERS] = setting(  # type: ignore[valid-type]
        "auto",
        "search",
        "what chooses the next trial; auto is evolution that a model advises; nsga2 is for several"
        " objectives, and the default there; grid tries all combinations of `steps` values of each"
        " hyperparameter",
    )
    steps: int = arg(
        3, "search", "grid: values of each range, both ends among them; choices have all of theirs", ge=2
    )
    warm_start: OptionalStr = setting(
        None,
        "search",
        "the folder of an earlier search, or several with commas between them, on whatever data: their best"
        " settings, three in all, are tried first after the defaults",
    )
    scheduler: Literal["forecast", "asha", "hyperband", "median", "pbt", "none"] = setting(
        "forecast",
        "search",
        "what stops trials that are losing; forecast learns from whole trainings how much an epoch tells of"
        " the end; pbt trains them all side by side instead, and replaces the worst quarter by children of"
        " the best, again and again; with several objectives there is none",
    )
    confirm: OptionalInt = arg(
        None,
        "search",
        "after the search, run its best trials and the defaults again with so many fresh seeds each, to tell"
        " which is best, how much better, and how surely; 0: do not; 3 from 30 iterations on when left out",
        ge=0,
    )
    finalists: int = arg(
        3, "search", "how many of the best trials confirm= runs again, beside the defaults", ge=1
    )
    stop: OptionalInt = arg(
        None,
        "search",
        "end the search when the last so many trials, done or stopped, have brought nothing better",
        ge=1,
    )
    grace: OptionalInt = arg(
        None,
        "search",
        "epochs before a trial may be stopped or replaced; from epochs and warm-up when left out",
        ge=1,
    )
    interval: OptionalInt = arg(
        None, "search", "pbt: epochs from one replacement to the next; a tenth of them when left out", ge=1
    )
    reduction: int = arg(3, "search", "asha, hyperband: one in so many goes on at each rung", ge=2)
    address: OptionalStr = setting(
        None,
        "machine",
        "a Ray cluster to run the trials on: host:port of its head node from one of its nodes, ray://host:port"
        " from elsewhere, or auto; RAY_ADDRESS when left out, and a Ray of its own where that is not set",
    )
    storage: Annotated[OptionalStr, BeforeValidator(reachable)] = setting(
        None,
        "machine",
        "where trials keep their checkpoints when the cluster's nodes share no disk: s3://bucket/prefix, gs://"
        " or a folder that all nodes see; in the run folder itself when left out",
    )
    concurrent: OptionalInt = arg(None, "machine", "trials at a time; as many as fit when left out", ge=1)
    cpus: OptionalInt = arg(
        None, "machine", "CPU cores of each of a trial's workers; from the machine when left out", ge=1
    )
    gpus: OptionalFloat = arg(
        None,
        "machine",
        "GPUs of each worker, a fraction where a trial has one; from the machine when left out",
        ge=0,
    )

    optimizer: Annotated[
        Literal[OPTIMIZERS] | None, BeforeValidator(none_if_word)  # type: ignore[valid-type]
    ] = setting(
        None,
        "optimization",
        "the optimizer of every trial; when left out the one that train's auto would choose,"
        " with its lr0 and momentum as the defaults",
        tunable=True,
    )
    project: str = setting("runs/tune", "output", "folder that holds the runs")
    plots: bool = setting(True, "output", "draw the search's plots; trials draw none")

    @model_validator(mode="before")
    @classmethod
    def _left_out_with_several_objectives(cls, given: Any) -> Any:
        several = isinstance(given, dict) and len(words(given.get("objectives", ""))) > 1
        return {**FOR_SEVERAL, **given} if several else given

    @field_validator("objectives")
    @classmethod
    def _fitness_and_costs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value[:1] != OBJECTIVES[:1]:
            raise ValueError(
                f"fitness comes first: objectives={','.join(dict.fromkeys(('fitness', *value)))}"
            )
        twice = next((word for word in value if value.count(word) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is in it twice")
        if len(value) > MOST_OBJECTIVES:
            raise ValueError(f"at most {MOST_OBJECTIVES}: with more, hardly a trial is worse than another")
        return value

    @field_validator("sampler")
    @classmethod
    def _for_several_objectives(cls, value: str, info: ValidationInfo) -> str:
        if len(info.data.get("objectives", ())) > 1 and value not in SAMPLERS_FOR_SEVERAL:
            *others, last = SAMPLERS_FOR_SEVERAL
            raise ValueError(f"it is for one objective; for several take {', '.join(others)} or {last}")
        return value

    @field_validator(*WHY_NOT_FOR_SEVERAL)
    @classmethod
    def _not_for_several_objectives(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        allowed = FOR_SEVERAL.get(name, cls.model_fields[name].default)
        if len(info.data.get("objectives", ())) > 1 and value != allowed:
            raise ValueError(f"{WHY_NOT_FOR_SEVERAL[name]}: leave it out with several objectives")
        return value

    @field_validator("batch")
    @classmethod
    def _one_batch_for_all(cls, value: float) -> float:
        if value < 1:
            raise ValueError("trials of one search train with one batch: give a number of images")
        return value

    @field_validator("lr_batch", "save", "val", "profile", "save_json", "save_period")
    @classmethod
    def _not_of_a_search(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if value != TrainArgs.model_fields[name].default:
            raise ValueError(WHY_NOT_IN_A_SEARCH[name])
        return value

    @field_validator("confirm")
    @classmethod
    def _enough_to_tell(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value == 1:
            raise ValueError("one run does not tell how much runs differ by chance: give 2 or more, or 0")
        if value and info.data.get("scheduler") == "pbt":
            raise ValueError(
                "a population's hyperparameters change while it trains, so they cannot be run again with"
                " another seed: leave it out with scheduler=pbt"
            )
        return value

    @field_validator("grace", "reduction", "interval", "stop", "finalists")
    @classmethod
    def _of_the_scheduler(cls, value: int | None, info: ValidationInfo) -> int | None:
        name, scheduler = str(info.field_name), info.data.get("scheduler")
        if scheduler in WITHOUT[name] and value != cls.model_fields[name].default:
            raise ValueError(f"scheduler={scheduler} has no use for it: leave it out")
        return value

    @field_validator("finalists")
    @classmethod
    def _of_a_confirmation(cls, value: int, info: ValidationInfo) -> int:
        short = info.data.get("iterations", CONFIRMED_FROM) < CONFIRMED_FROM
        if value != cls.model_fields["finalists"].default and short and info.data.get("confirm") is None:
            raise ValueError(f"below {CONFIRMED_FROM} iterations nothing is run again: give confirm=, too")
        return value

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives beside the fitness."""
        return self.objectives[1:]

    @property
    def fresh_seeds(self) -> int:
        """How many the confirmation takes; 0: there is none."""
        if self.confirm is not None:
            return self.confirm
        return 3 if self.iterations >= CONFIRMED_FROM and self.scheduler != "pbt" else 0

    @field_validator("steps")
    @classmethod
    def _of_the_sampler(cls, value: int, info: ValidationInfo) -> int:
        sampler = info.data.get("sampler")
        if sampler not in ("grid", None) and value != cls.model_fields["steps"].default:
            raise ValueError(f"sampler={sampler} has no use for it: leave it out")
        return value

    @field_validator("warm_start")
    @classmethod
    def _earlier_searches(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("sampler") == "grid":
            raise ValueError("sampler=grid tries every combination, whatever is known: leave it out")
        if value is not None and not value.replace(",", "").strip():
            raise ValueError("give the folder of a search, such as runs/tune/first")
        return value

    @field_validator("optimizer", mode="before")
    @classmethod
    def _never_auto(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lower() == "auto":
            raise ValueError(
                "auto sets lr0 and momentum itself, so tuning them would have no effect;"
                " leave optimizer out (tune then writes down what auto would choose) or name one of "
                + ", ".join(OPTIMIZERS)
            )
        return value
