"""Arguments: what passes, and what each kind of mistake is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.args import Arguments, TrainArgs, ValArgs, tunable_names
from tunekit.checks import build_args, choices, limits
from tunekit.errors import ArgumentError
from tunekit.search_args import TuneArgs
from tunekit.verb_args import ARGUMENTS

BATCHES = "must be a whole number from 1, or -1 or a share below 1 of the GPU's memory"
EVERY_ARGUMENT = [(verb, name) for verb, kind in ARGUMENTS.items() for name in kind.model_fields]


def complaint(kind: type[Arguments], **settings: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        build_args(kind, settings)
    return str(caught.value)


@pytest.mark.parametrize(("verb", "name"), EVERY_ARGUMENT)
def test_every_argument_has_a_doc_and_a_group(verb: str, name: str) -> None:
    field = ARGUMENTS[verb].model_fields[name]
    assert field.description
    assert not field.description.endswith(".")
    assert set(field.json_schema_extra) == {"group", "tunable"}


@pytest.mark.parametrize("kind", [TrainArgs, TuneArgs])
def test_defaults_pass_their_own_checks(kind: type[Arguments]) -> None:
    defaults = kind().model_dump()
    assert build_args(kind, defaults).model_dump() == defaults


@pytest.mark.parametrize("kind", [TrainArgs, TuneArgs])
def test_defaults_written_as_text_read_back_the_same(kind: type[Arguments]) -> None:
    defaults = kind().model_dump()
    assert build_args(kind, {name: str(value) for name, value in defaults.items()}).model_dump() == defaults


def test_text_from_the_command_line_becomes_typed_values() -> None:
    text = {
        "epochs": "5",
        "lr0": "1e-3",
        "cos_lr": "True",
        "optimizer": "AdamW",
        "device": "0",
        "name": "None",
    }
    args = build_args(TrainArgs, text)
    assert (args.epochs, args.lr0, args.cos_lr, args.optimizer) == (5, 0.001, True, "AdamW")
    assert (args.device, args.name) == ("0", None)


def test_python_values_pass_as_they_are() -> None:
    args = build_args(TrainArgs, {"device": 0, "data": Path("pets.yaml"), "epochs": 5})
    assert (args.device, args.data, args.epochs) == ("0", "pets.yaml", 5)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [("True", "ram"), ("ram", "ram"), ("RAM", "ram"), ("disk", "disk"), ("False", False), (False, False)],
)
def test_cache_understands_what_yolo_users_write(word: Any, meaning: Any) -> None:
    assert build_args(TrainArgs, {"cache": word}).cache == meaning


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"iterations": "0"}, "iterations=0: must be at least 1"),
        ({"epochs": "-1"}, "epochs=-1: must be at least 1"),
        ({"epochs": "many"}, "epochs=many: must be a whole number, at least 1"),
        (
            {"batch": "2.5"},
            f"batch=2.5: {BATCHES}",
        ),
        (
            {"batch": 2.5},
            f"batch=2.5: {BATCHES}",
        ),
        ({"epochs": None}, "epochs=None: must be a whole number, at least 1"),
        ({"lr0": "0"}, "lr0=0: must be above 0 and at most 1"),
        ({"lr0": "nan"}, "lr0=nan: must be a number, above 0 and at most 1"),
        ({"box": "inf"}, "box=inf: must be a number, at least 0"),
        ({"mosaic": "1.5"}, "mosaic=1.5: must be from 0 to 1"),
        ({"momentum": "x"}, "momentum=x: must be a number, at least 0 and below 1"),
        ({"cos_lr": "maybe"}, "cos_lr=maybe: must be True or False"),
        ({"data": ["a.yaml"]}, "data=['a.yaml']: must be text"),
        (
            {"sampler": "genetics"},
            "sampler=genetics: must be one of auto, genetic, tpe, cmaes, gp, priorband, nsga2, random, grid; "
            "did you mean genetic?",
        ),
        ({"scheduler": "xyz"}, "scheduler=xyz: must be one of forecast, asha, hyperband, median, pbt, none"),
        ({"cache": "rom"}, "cache=rom: must be one of disk, ram, gpu, False; did you mean ram?"),
        ({"imgsz": "100"}, "imgsz=100: must be a multiple of 32, the largest stride: use 96 or 128"),
        ({"grace": "0"}, "grace=0: must be at least 1"),
        (
            {"scheduler": "median", "reduction": "4"},
            "reduction=4: scheduler=median has no use for it: leave it out",
        ),
        (
            {"objectives": "fitness,latncy"},
            "objectives=latncy: must be one of fitness, parameters, gflops, latency; did you mean latency?",
        ),
        ({"objectives": "latency"}, "objectives=latency: fitness comes first: objectives=fitness,latency"),
        ({"objectives": "fitness,gflops,gflops"}, "objectives=fitness,gflops,gflops: gflops is in it twice"),
        (
            {"objectives": "fitness,gflops,latency,parameters"},
            "objectives=fitness,gflops,latency,parameters: at most 3: with more, hardly a trial is worse than"
            " another",
        ),
        ({"objectives": 5}, "objectives=5: must be one of fitness, parameters, gflops, latency"),
        (
            {"objectives": "fitness,latency", "sampler": "tpe"},
            "sampler=tpe: it is for one objective; for several take nsga2, random or grid",
        ),
        (
            {"objectives": "fitness,latency", "scheduler": "asha"},
            "scheduler=asha: it stops trials by their fitness, and so the small models: leave it out with"
            " several objectives",
        ),
        (
            {"objectives": "fitness,latency", "confirm": "3"},
            "confirm=3: it compares trials by their fitness: leave it out with several objectives",
        ),
        (
            {"objectives": "fitness,latency", "stop": "5"},
            "stop=5: it looks for a better fitness: leave it out with several objectives",
        ),
        ({"time": "0"}, "time=0: must be above 0"),
        ({"time": "soon"}, "time=soon: must be a number, above 0"),
        ({"stop": "0"}, "stop=0: must be at least 1"),
        ({"confirm": "-1"}, "confirm=-1: must be at least 0"),
        (
            {"confirm": "1"},
            "confirm=1: one run does not tell how much runs differ by chance: give 2 or more, or 0",
        ),
        (
            {"scheduler": "pbt", "confirm": "3"},
            "confirm=3: a population's hyperparameters change while it trains, so they cannot be run again"
            " with another seed: leave it out with scheduler=pbt",
        ),
        (
            {"iterations": "10", "finalists": "5"},
            "finalists=5: below 30 iterations nothing is run again: give confirm=, too",
        ),
        ({"scheduler": "none", "grace": 2}, "grace=2: scheduler=none has no use for it: leave it out"),
    ],
)
def test_a_bad_value_is_told_with_what_is_allowed(settings: dict[str, Any], sentence: str) -> None:
    assert complaint(TuneArgs, **settings) == sentence


@pytest.mark.parametrize(
    ("settings", "seeds"),
    [
        ({}, 3),
        ({"iterations": 29}, 0),
        ({"iterations": 10, "confirm": 5}, 5),
        ({"confirm": 0}, 0),
        ({"scheduler": "pbt"}, 0),
        ({"scheduler": "pbt", "confirm": 0}, 0),
    ],
)
def test_a_search_of_some_length_is_confirmed_unless_it_cannot_be(
    settings: dict[str, Any], seeds: int
) -> None:
    assert build_args(TuneArgs, settings).fresh_seeds == seeds


def test_val_refuses_a_size_that_is_no_multiple_of_the_stride() -> None:
    assert "use 96 or 128" in complaint(ValArgs, model="best.pt", imgsz="100")


def test_a_needed_argument_that_is_missing_is_told_with_its_meaning() -> None:
    assert complaint(ValArgs) == "model= is needed: checkpoint to validate"


def test_every_bad_value_of_a_call_is_told_at_once() -> None:
    assert complaint(TrainArgs, epochs=0, lr0=2).splitlines() == [
        "epochs=0: must be at least 1",
        "lr0=2: must be above 0 and at most 1",
    ]


def test_a_very_long_value_is_cut_in_the_sentence() -> None:
    assert len(complaint(TrainArgs, epochs="9" * 5000)) < 150


def test_optimizer_auto_is_refused_in_a_search_and_says_why() -> None:
    sentence = complaint(TuneArgs, optimizer="auto")
    assert "tuning them would have no effect" in sentence
    assert "SGD" in sentence
    assert build_args(TrainArgs, {"optimizer": "auto"}).optimizer == "auto"


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (TrainArgs, "epoch", "did you mean 'epochs'?"),
        (TrainArgs, "IMGSZ", "did you mean 'imgsz'?"),
        (TuneArgs, "iter", "did you mean 'iterations'?"),
        (TrainArgs, "batch_size", "here it is 'batch'"),
        (TrainArgs, "iterations", "it is one of `tunekit tune`"),
        (ValArgs, "epochs", "it is one of `tunekit train`"),
        (TrainArgs, "conf", "it is one of `tunekit val`"),
        (TrainArgs, "zzz", "see --help"),
    ],
)
def test_an_unknown_name_is_told_with_what_was_meant(kind: type[Arguments], name: str, hint: str) -> None:
    sentence = complaint(kind, **{name: "1"})
    assert sentence.startswith(f"unknown argument '{name}': ")
    assert hint in sentence


def test_the_place_of_a_name_is_put_in_front() -> None:
    with pytest.raises(ArgumentError, match=r"^my.yaml: epochs=0"):
        build_args(TrainArgs, {"epochs": 0}, "my.yaml")
    with pytest.raises(ArgumentError, match=r"^my.yaml:3: epochs=0"):
        build_args(TrainArgs, {"epochs": 0, "lr0": 0.1}, {"epochs": "my.yaml:3"})


@given(data=st.data())
def test_a_number_passes_exactly_when_it_is_within_the_limits(data: st.DataObject) -> None:
    numbers = [name for name, field in TuneArgs.model_fields.items() if field.annotation is float]
    name = data.draw(st.sampled_from(numbers))
    value = data.draw(st.floats(-10, 200))
    bounds = {
        key: getattr(bound, key)
        for bound in TuneArgs.model_fields[name].metadata
        for key in ("gt", "ge", "lt", "le")
        if hasattr(bound, key)
    }
    within = (
        value > bounds.get("gt", -1e9)
        and value >= bounds.get("ge", -1e9)
        and value < bounds.get("lt", 1e9)
        and value <= bounds.get("le", 1e9)
    )
    if within:
        assert getattr(build_args(TuneArgs, {name: value}), name) == value
    else:
        assert limits(TuneArgs, name) in complaint(TuneArgs, **{name: value})


@given(st.text(min_size=1), st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text())))
def test_whatever_is_given_passes_or_is_an_argument_error(name: str, value: Any) -> None:
    try:
        build_args(TuneArgs, {name: value})
    except ArgumentError as error:
        assert str(error)


@given(data=st.data())
def test_whatever_value_a_known_name_gets_passes_or_is_an_argument_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TuneArgs.model_fields)))
    anything = st.one_of(
        st.text(), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.integers())
    )
    value = data.draw(anything)
    try:
        build_args(TuneArgs, {name: value})
    except ArgumentError as error:
        assert name in str(error)


def test_arguments_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainArgs().epochs = 3  # type: ignore[misc]


def test_what_was_given_can_be_told_from_what_was_left_out() -> None:
    assert build_args(TrainArgs, {"epochs": 100, "lr0": 0.1}).model_fields_set == {"epochs", "lr0"}


def test_choices_and_limits_are_there_to_be_shown() -> None:
    assert choices(TrainArgs, "optimizer")[:2] == ("auto", "SGD")
    assert choices(TuneArgs, "optimizer")[0] == "SGD"
    assert choices(TrainArgs, "epochs") == ()
    assert limits(TrainArgs, "mosaic") == "from 0 to 1"
    assert limits(TrainArgs, "momentum") == "at least 0 and below 1"
    assert limits(TrainArgs, "data") == ""


def test_what_can_be_tuned_is_a_training_argument_without_folders_or_machine() -> None:
    names = tunable_names()
    assert {"lr0", "mosaic", "optimizer", "batch", "model"} <= set(names) <= set(TrainArgs.model_fields)
    assert not {"data", "epochs", "project", "seed", "device", "amp"} & set(names)


def test_with_several_objectives_other_choices_are_the_defaults() -> None:
    one = build_args(TuneArgs, {"objectives": "fitness"})
    assert (one.sampler, one.scheduler, one.fresh_seeds, one.costs) == ("auto", "forecast", 3, ())
    for written in ("fitness,latency", "[fitness, latency]", ["fitness", "latency"], ("fitness", "latency")):
        two = build_args(TuneArgs, {"objectives": written})
        assert (two.sampler, two.scheduler, two.fresh_seeds, two.costs) == ("nsga2", "none", 0, ("latency",))
        assert build_args(TuneArgs, two.model_dump()) == two
    assert build_args(TuneArgs, {"objectives": "fitness,gflops", "sampler": "grid"}).sampler == "grid"
    assert build_args(TuneArgs, {"sampler": "nsga2"}).scheduler == "forecast"
