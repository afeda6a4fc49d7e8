"""What is tried right after the defaults: the learning rate and the strength of augmentation, on purpose."""

from __future__ import annotations

import pytest
import yaml

from tests.search.test_genetic import study_of
from tunekit.search.asking import ask
from tunekit.search.auto import AutoSampler
from tunekit.search.genes import from_units
from tunekit.search.opening import opening
from tunekit.search.space import Space, Value, load_space
from tunekit.search.spec import parameter_of


def moved(space: Space) -> list[dict[str, Value]]:
    """Of each setting what is not as in the defaults."""
    defaults = space.defaults()
    settings = [from_units(space, genes) for genes in opening(space)]
    return [{k: v for k, v in setting.items() if v != pytest.approx(defaults[k])} for setting in settings]


def test_rates_go_up_and_augmentations_down() -> None:
    """AdamW's automatic rate for ten classes; a fifth of three decades is a factor of four."""
    space = load_space("default").with_priors({"lr0": 0.000714, "degrees": 10.0})
    high, plain, higher = moved(space)
    assert high == {"lr0": pytest.approx(0.000714 * 10**0.6, rel=1e-4)}
    augmentations = {"hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "fliplr", "mosaic"}
    assert plain == {**high, **dict.fromkeys(augmentations, 0.0)}
    halved = {name: pytest.approx(0.5 * float(space.defaults()[name])) for name in augmentations}
    assert higher == {"lr0": pytest.approx(0.000714 * 10**1.2, rel=1e-4), **halved}


def test_a_rate_near_the_end_of_its_range_turns_back() -> None:
    space = load_space("default").with_priors({"lr0": 0.1})
    assert [setting["lr0"] for setting in moved(space)] == pytest.approx(
        [0.1 / 10**0.6] * 2 + [0.1 / 10**1.2], rel=1e-4
    )


def test_what_a_range_leaves_of_an_augmentation() -> None:
    """mosaic cannot be switched off where its range begins at .7."""
    space = _space("mosaic: {range: [0.7, 1.0]}\nfliplr: {range: [0, 1]}")
    assert moved(space) == [{"mosaic": 0.7, "fliplr": 0.0}, {"mosaic": 0.7, "fliplr": 0.25}]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("lr0: {range: [0.0001, 0.1], scale: log}\nbox: {range: [1, 20]}", 2),
        ("box: {range: [1, 20]}\ncls: {range: [0.1, 4]}", 0),
        ("degrees: {range: [0, 45]}\nclose_mosaic: {range: [0, 20], scale: int}", 0),
        ("mosaic: {range: [0, 1]}", 2),
        ("lr0: {choice: [0.01, 0.02]}\nbox: {range: [1, 20]}", 0),
    ],
)
def test_no_setting_comes_twice(text: str, count: int) -> None:
    """None of what is not searched, and of what has nothing to be taken from."""
    assert len(moved(_space(text))) == count


def test_a_rate_that_depends_on_a_choice() -> None:
    """With the default optimizer it is not searched, so it is left alone."""
    optimizer = "optimizer: {choice: [SGD, AdamW], prior: SGD}"
    space = _space(f"{optimizer}\nlr0: {{range: [0.001, 0.1], when: {{optimizer: [AdamW]}}}}")
    assert moved(space) == []


@pytest.mark.parametrize("slots", [1, 4, 8])
def test_auto_begins_with_it(slots: int) -> None:
    space = load_space("default")
    study = study_of(AutoSampler(space, 3), space)
    trials = []
    while len(trials) < 8:
        trials += (together := [ask(study, space) for _ in range(slots)])
        for trial in together:
            study.tell(trial, 0.1 * trial.number)
    assert trials[0].params == space.defaults()
    assert [trial.params for trial in trials[1:4]] == [from_units(space, genes) for genes in opening(space)]
    different = {tuple(trial.params.values()) for trial in trials}
    assert len(different) == len(trials)


def _space(text: str) -> Space:
    entries = yaml.safe_load(text)
    return Space("own", tuple(parameter_of(name, spec) for name, spec in entries.items()))
