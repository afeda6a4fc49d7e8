"""NSGA-II on a problem like that of model scales: a larger model can be better, and costs more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import JournalStorage
from optuna.study import Study

from tests.search.scales import go_on, hypervolume, study_of
from tunekit.search.genes import to_units
from tunekit.search.nsga2 import SIZE, child
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Parameter, Space, load_space
from tunekit.tuning.journal import Journal, together


def test_it_finds_better_fronts_than_random_search() -> None:
    space = load_space("scales")
    found: dict[str, list[float]] = {"nsga2": [], "random": []}
    for name, areas in found.items():
        for seed in range(4):
            study = study_of(name, space, seed)
            go_on(study, space, 80, seed)
            areas.append(hypervolume(study))
    assert np.mean(found["nsga2"]) > 1.15 * np.mean(found["random"])
    assert sum(a > b for a, b in zip(found["nsga2"], found["random"], strict=True)) >= 3


@pytest.mark.parametrize("name", ["nsga2", "random", "grid"])
def test_a_search_that_is_cut_goes_on_from_its_journal(name: str, tmp_path: Path) -> None:
    """Into the third generation, with trials in flight when it is cut, stopped and failed ones."""
    space = load_space("scales")
    space = space if name != "grid" else space.without([p.name for p in space.parameters[4:]])

    def opened(file: str) -> Study:
        return study_of(name, space, 5, JournalStorage(Journal(tmp_path / file)))

    def go(file: str, until: int) -> None:
        study = opened(file)
        with together(study):  # or every line would wait for the disk
            go_on(study, space, until, losses=True)

    last = 4 * SIZE
    go("straight", last)
    for until in (SIZE - 1, SIZE + 4, 2 * SIZE + 5, last):
        go("cut", until)
    straight, cut = opened("straight"), opened("cut")
    assert [trial.params for trial in cut.trials] == [trial.params for trial in straight.trials]
    assert len({str(trial.params) for trial in cut.trials}) == last, "nothing is tried twice"
    if name == "nsga2":
        generations = [trial.system_attrs.get("Nsga2Sampler:generation") for trial in cut.trials]
        assert generations[0] == 0, "the defaults are among the first, though nobody proposed them"
        assert generations == sorted(generations)
        assert generations[-1] >= 2


def test_the_seed_decides_and_the_defaults_come_first() -> None:
    space = load_space("scales")

    def params(seed: int) -> list[dict[str, Any]]:
        study = study_of("nsga2", space, seed)
        go_on(study, space, 2 * SIZE)
        return [trial.params for trial in study.trials]

    found = params(1)
    assert found[0] == space.defaults()
    assert found == params(1) != params(2)
    assert {proposal["model"] for proposal in found} == set(space.options("model"))
    for proposal in found:
        for known, distribution in space.distributions().items():
            assert distribution._contains(distribution.to_internal_repr(proposal[known]))


def test_a_child_is_mostly_its_parents() -> None:
    space = load_space("quick")
    rng = np.random.default_rng(0)
    pool = np.stack([to_units(space, {**space.defaults(), "mosaic": mosaic}) for mosaic in (0.2, 0.4, 0.6)])
    worth = np.array([[0.1, -5.0], [0.2, -6.0], [0.3, -7.0]])  # none beats another
    children = np.stack([child(space, pool, worth, rng) for _ in range(300)])
    inherited = (np.abs(children[:, None] - pool) < 1e-3).any(axis=1)
    assert 0.6 < inherited.mean() < 0.85, "two of eight genes are moved on average"
    shares = (np.abs(children[:, -1:] - pool[:, -1]) < 1e-3).mean(axis=0)
    assert shares.min() > 0.5 * shares.max()


def test_a_trial_that_beats_the_others_has_more_children() -> None:
    space = load_space("scales")
    study = study_of("nsga2", space, 0)
    shares = [number / 10 for number in range(SIZE)]
    for number, mosaic in enumerate(shares):
        if number:
            study.enqueue_trial({**space.defaults(), "mosaic": mosaic})
        trial = study.ask(space.distributions())
        study.tell(trial, (0.5, 3.0) if number == 7 else (0.1 + number / 100, 6.0 + number))
    children = [study.ask(space.distributions()).params["mosaic"] for _ in range(60)]
    mean = np.mean([children.count(mosaic) for mosaic in shares])
    assert children.count(shares[7]) > 1.4 * mean


def test_what_is_proposed_depends_on_the_trials_number() -> None:
    space = load_space("scales")
    first, second = study_of("random", space, 0), study_of("random", space, 0)
    for study, others in ((first, 1), (second, 2)):
        for _ in range(others):
            study.ask(space.distributions())
        study.sampler = make_sampler("nsga2", space, 0)
    assert first.ask(space.distributions()).params != second.ask(space.distributions()).params


def test_in_a_small_space_little_is_tried_twice() -> None:
    space = load_space("scales")
    models = next(parameter for parameter in space.parameters if parameter.name == "model")
    small = Space("small", (models, Parameter(name="close_mosaic", kind="int", low=0, high=3, prior=1)))
    study = study_of("nsga2", small, 0)
    go_on(study, small, 10)
    assert len({str(trial.params) for trial in study.trials}) == 10, "of twelve points"
