"""The plan: trial 0 is what plain training does, and what the user gave is not searched."""

import pytest

from tunekit.args import TrainArgs
from tunekit.errors import ArgumentError, SpaceError
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.training.resolve import resolved
from tunekit.tuning.plan import make_plan

IMAGES, CLASSES = 384, 10


def space_of(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_space(str(path))


def plan_of(space, **given):
    return make_plan(TuneArgs(**given), space, CLASSES, IMAGES, "cpu", 1)


@pytest.mark.parametrize("name", ["default", "quick", "augment"])
@pytest.mark.parametrize("given", [{}, {"epochs": 2000}, {"optimizer": "SGD"}, {"lr0": 0.02, "mosaic": 0.5}])
def test_trial_0_trains_exactly_as_plain_training_would(name, given):
    plan = plan_of(load_space(name), **given)
    first = plan.trial_args(plan.space.defaults())
    train = resolved(TrainArgs(**given, device="cpu", threads=1, plots=False), CLASSES, IMAGES)
    differing = {key for key, value in first.model_dump().items() if value != getattr(train, key)}
    # train's auto overrides a given lr0 as well; a tune holds to it
    assert differing <= {"lr0"} & given.keys()


def test_given_arguments_leave_the_space_and_it_is_said():
    plan = plan_of(load_space("quick"), lr0=0.02)
    assert "lr0" not in plan.space.defaults()
    assert plan.base.lr0 == 0.02
    assert any("lr0=0.02" in note for note in plan.notes)


CONDITIONAL = """
momentum: {range: [0.5, 0.95], when: {optimizer: SGD}, prior: 0.6}
lr0: {range: [0.005, 0.1], when: {cos_lr: true}}
optimizer: {choice: [SGD, AdamW], prior: AdamW}
cos_lr: {choice: [true, false], prior: true, when: {optimizer: SGD}}
mosaic: {range: [0.0, 1.0]}
"""


def test_a_trial_that_lacks_a_parameter_trains_with_what_it_is_if_nobody_searches_it(tmp_path):
    plan = plan_of(space_of(tmp_path, CONDITIONAL))
    assert plan.space.defaults() == {"optimizer": "AdamW", "mosaic": 1.0}
    first = plan.trial_args(plan.space.defaults())
    assert (first.optimizer, first.momentum, first.cos_lr) == ("AdamW", plan.base.momentum, False)
    assert first.lr0 == plan.base.lr0 < 0.005
    assert not any("outside" in note for note in plan.notes), "lr0 is none of trial 0's"
    sgd = plan.trial_args(plan.space.completed({"optimizer": "SGD"}))
    assert (sgd.momentum, sgd.cos_lr, sgd.lr0) == (0.6, True, 0.005)


def test_what_is_searched_only_with_other_values_than_the_given_leaves_the_space_and_it_is_said(tmp_path):
    space = space_of(tmp_path, CONDITIONAL)
    plan = plan_of(space, optimizer="AdamW")
    assert set(plan.space.defaults()) == {"mosaic"}
    assert plan.notes[0] == (
        "given, so not searched: optimizer=AdamW; nor, as that is so: momentum, lr0, cos_lr"
    )
    plan = plan_of(space, optimizer="SGD")
    assert set(plan.space.defaults()) == {"mosaic", "momentum", "lr0", "cos_lr"}
    assert plan.notes[0] == "given, so not searched: optimizer=SGD"
    with pytest.raises(SpaceError, match="nothing to tune is left"):
        plan_of(space, optimizer="AdamW", mosaic=0.5)


def test_the_searchs_hours_are_not_a_trials():
    plan = plan_of(load_space("quick"), time=2.0)
    assert plan.trial_args(plan.space.defaults()).time is None


def test_nothing_left_to_search_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match=r"lr0.*nothing is left to tune"):
        plan_of(space_of(tmp_path, "lr0: {range: [0.001, 0.1]}"), lr0=0.01)


def test_a_prior_of_the_space_holds_against_autos(tmp_path):
    plan = plan_of(space_of(tmp_path, "lr0: {range: [0.001, 0.1], prior: 0.05}"))
    assert plan.space.defaults()["lr0"] == 0.05


def test_defaults_outside_of_the_space_are_moved_into_it_and_it_is_said(tmp_path):
    plan = plan_of(space_of(tmp_path, "lr0: {range: [0.005, 0.1], scale: log}"))
    assert plan.space.defaults()["lr0"] == 0.005
    assert any("lr0=0.000714 is outside" in note for note in plan.notes)


def test_a_searched_optimizer_begins_with_the_spaces_prior_and_its_own_learning_rate(tmp_path):
    text = "optimizer: {choice: [SGD, Adam], prior: SGD}\nlr0: {range: [0.001, 0.1]}"
    first = plan_of(space_of(tmp_path, text)).space.defaults()
    assert first == {"optimizer": "SGD", "lr0": 0.01}


def test_every_trials_arguments_are_validated(tmp_path):
    plan = plan_of(space_of(tmp_path, "lr0: {range: [0.001, 0.1]}"))
    with pytest.raises(ArgumentError, match="lr0"):
        plan.trial_args({"lr0": -1.0})


def test_a_space_made_of_what_tune_forbids_is_refused(tmp_path):
    with pytest.raises(SpaceError, match="auto"):
        space_of(tmp_path, "optimizer: {choice: [auto, SGD], prior: SGD}")


def test_what_cannot_be_augmented_on_a_gpu_is_told_before_anything_runs():
    with pytest.raises(ArgumentError, match="cache=gpu has no copy_paste: give copy_paste=0"):
        plan_of(load_space("default"), cache="gpu")
    assert "copy_paste" not in plan_of(load_space("default"), cache="gpu", copy_paste=0.0).space.defaults()


def test_a_searched_model_is_a_trials_own(tmp_path):
    plan = plan_of(space_of(tmp_path, "model: {choice: [a.pt, b.yaml], prior: b.yaml}"))
    assert plan.models == ("a.pt", "b.yaml")
    assert plan.trial_args(plan.space.defaults()).model == "b.yaml"
    assert plan.trial_args({"model": "a.pt"}).model == "a.pt"


def test_a_given_model_is_not_searched_and_it_is_said():
    plan = plan_of(load_space("scales"), model="yolov8s.yaml")
    assert plan.models == (plan.base.model,) == ("yolov8s.yaml",)
    assert "given, so not searched: model=yolov8s.yaml" in plan.notes


def test_a_population_cannot_change_its_model():
    with pytest.raises(ArgumentError, match=r"scheduler=pbt lets a trial go on .* give model="):
        plan_of(load_space("scales"), scheduler="pbt")
    assert plan_of(load_space("scales"), scheduler="pbt", model="yolo11n.yaml").models == ("yolo11n.yaml",)


def test_what_the_model_decides_is_no_objective_where_all_trials_have_one_model():
    assert plan_of(load_space("scales"), objectives=("fitness", "latency")).costs == ("latency",)
    told = r"all trials have the same model here, and so the same gflops and latency: let the space choose"
    for space, given in (("quick", {}), ("scales", {"model": "yolo11n.yaml"})):
        with pytest.raises(ArgumentError, match=told):
            plan_of(load_space(space), objectives=("fitness", "gflops", "latency"), **given)
