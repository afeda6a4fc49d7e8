"""What mattered: known importances are found, noise is not, and crowds at an end of a range are."""

from __future__ import annotations

import csv
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results.tune_folder import typical_tune_folder
from tunekit.results.bounds import ENOUGH, at_least
from tunekit.results.folder import WRITTEN_BY_RUNS
from tunekit.results.importance import Importance, importances
from tunekit.results.importance_files import importance_figure, write_importance
from tunekit.results.run import Run
from tunekit.results.trials import TrialRow
from tunekit.search.space import Parameter, Space

# In an order that is not the alphabet's.
SPACE = Space(
    "some",
    (
        Parameter(name="lr0", kind="float", low=1e-4, high=0.1, scale="log", prior=0.01),
        Parameter(name="mixup", kind="float", low=0.0, high=1.0, prior=0.0),
        Parameter(name="close_mosaic", kind="int", low=0, high=10, prior=5),
        Parameter(name="box", kind="float", low=1.0, high=20.0, prior=7.5),
        Parameter(name="cos_lr", kind="choice", choices=(True, False), prior=False),
    ),
)
Score = Callable[[np.ndarray, np.random.Generator], float]


def trials(count: int, score: Score, seed: int = 0, stopped: float = 0.0) -> list[TrialRow]:
    """Random ones; of the worse so many are stopped after 4 epochs, with a third of their score."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        genes = rng.random(len(SPACE.parameters))
        value = score(genes, rng)
        params = {p.name: p.from_unit(float(gene)) for p, gene in zip(SPACE.parameters, genes, strict=True)}
        early = value < 0.5 and rng.random() < stopped
        rows.append(
            TrialRow(number, "PRUNED", value / 3, params, epochs=4)
            if early
            else TrialRow(number, "COMPLETE", value, params, epochs=12)
        )
    return rows


def noise(genes: np.ndarray, rng: np.random.Generator) -> float:
    return float(rng.random())


def of_box_and_cos_lr(genes: np.ndarray, rng: np.random.Generator) -> float:
    """box matters most, cos_lr less, the rest not at all."""
    choice = 0.3 if genes[4] < 0.5 else 0.0
    return float(0.9 - 2.0 * (genes[3] - 0.5) ** 2 - choice + rng.normal(0, 0.04))


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what does not hang on how well the forest sees: most of the time is its."""
    monkeypatch.setattr("tunekit.results.importance.TREES", 3)


def verdicts(rows: list[Importance]) -> dict[str, str]:
    return {row.parameter: row.verdict for row in rows}


def test_what_mattered_is_found_in_order_and_the_rest_is_not_said_to() -> None:
    rows = importances(trials(60, of_box_and_cos_lr, seed=3), SPACE)
    assert {row.parameter for row in rows[:2]} == {"box", "cos_lr"}
    assert sum(row.importance for row in rows) == pytest.approx(1)
    said = verdicts(rows)
    assert said["box"] == said["cos_lr"] == "mattered"
    assert "mattered" not in {said["lr0"], said["mixup"], said["close_mosaic"]}
    assert rows[0].ranks == (1, 1), "in nearly all halves of the trials"
    assert all(row.chance <= 0.05 < other.chance for row in rows[:2] for other in rows[2:])


def test_one_whose_effect_would_have_been_seen_is_said_to_have_none() -> None:
    said = verdicts(importances(trials(150, of_box_and_cos_lr), SPACE))
    assert "no effect" in {said["lr0"], said["mixup"], said["close_mosaic"]}
    assert said["box"] == said["cos_lr"] == "mattered"


def test_one_that_explains_nearly_all_does_not_hide_another() -> None:
    """Beside lr0 alone box has less than a shuffled parameter's share; lr0 known, it explains the rest."""

    def score(genes: np.ndarray, rng: np.random.Generator) -> float:
        return float(genes[0] + 0.3 * genes[3] + rng.normal(0, 0.005))

    rows = importances(trials(60, score), SPACE)
    box = next(row for row in rows if row.parameter == "box")
    assert box.importance < 0.2
    assert verdicts(rows)["box"] == "mattered"
    assert verdicts(rows)["lr0"] == "mattered"


def test_stopped_trials_count_as_what_was_worse() -> None:
    some = trials(60, of_box_and_cos_lr, stopped=1.0)
    assert 10 < sum(row.state == "PRUNED" for row in some) < 50
    said = verdicts(importances(some, SPACE))
    assert said["box"] == said["cos_lr"] == "mattered"


def test_in_pure_noise_hardly_anything_is_said_to_matter() -> None:
    """By chance one search in twenty: two of four would be one chance in seventy."""
    wrong = [
        "mattered" in verdicts(importances(trials(24, noise, seed), SPACE, seed)).values()
        for seed in range(4)
    ]
    assert sum(wrong) <= 1


@pytest.mark.usefixtures("few_trees")
def test_the_same_trials_give_the_same_rows() -> None:
    some = trials(24, noise)
    assert importances(some, SPACE) == importances(some, SPACE)


def test_too_few_trials_or_none_that_differ_tell_nothing() -> None:
    assert importances([], SPACE) == []
    assert importances(trials(ENOUGH - 1, noise), SPACE) == []
    assert importances(trials(40, lambda genes, rng: 0.0), SPACE) == []
    stopped = [TrialRow(row.number, "PRUNED", row.fitness, row.params) for row in trials(40, noise)]
    assert importances(stopped, SPACE) == []
    children = [
        TrialRow(row.number, "COMPLETE", row.fitness, row.params, origin=(0, 3)) for row in trials(40, noise)
    ]
    assert importances(children, SPACE) == []


def crowded(parameter: str, where: str, about: str = "the best") -> dict[str, str]:
    """The ends that are told when trials lie at that end of the parameter."""
    at = [p.name for p in SPACE.parameters].index(parameter)
    rng = np.random.default_rng(3)
    rows = []
    for number in range(50):
        best = number % 5 == 0
        genes = rng.random(len(SPACE.parameters))
        if best or about == "all":
            genes[at] = 0.03 * genes[at] if where == "low" else 1 - 0.03 * genes[at]
        params = {p.name: p.from_unit(float(gene)) for p, gene in zip(SPACE.parameters, genes, strict=True)}
        rows.append(TrialRow(number, "COMPLETE", float(best) + rng.random(), params))
    return {row.parameter: row.bound for row in importances(rows, SPACE) if row.bound}


@pytest.mark.usefixtures("few_trees")
def test_the_best_at_an_end_of_a_range_are_told() -> None:
    assert crowded("lr0", "low") == {"lr0": "low"}
    assert crowded("close_mosaic", "high") == {"close_mosaic": "high"}


@pytest.mark.usefixtures("few_trees")
def test_a_range_that_cannot_be_wider_is_not_blamed() -> None:
    """mixup is a probability; lr0's lowest value is no limit of the argument, close_mosaic's is."""
    assert crowded("mixup", "low") == {}
    assert crowded("close_mosaic", "low") == {}


@pytest.mark.usefixtures("few_trees")
def test_that_all_trials_lie_where_the_search_began_is_no_reason() -> None:
    assert crowded("lr0", "high", about="all") == {}


@given(st.integers(1, 30), st.data())
def test_the_chance_of_a_crowd_is_that_of_drawing_it(total: int, data: st.DataObject) -> None:
    marked, drawn = data.draw(st.integers(0, total)), data.draw(st.integers(0, total))
    chances = [at_least(crowd, drawn, marked, total) for crowd in range(drawn + 2)]
    assert chances[0] == pytest.approx(1)
    assert chances[-1] == 0
    mean = sum(chances[1:])  # of a count, the sum of its chances to be at least 1, 2, ...
    assert mean == pytest.approx(drawn * marked / total)


@pytest.mark.usefixtures("few_trees")
def test_the_folder_gets_a_table_and_a_picture_and_loses_those_that_no_longer_hold(tmp_path) -> None:
    rows = write_importance(tmp_path, trials(24, of_box_and_cos_lr), SPACE)
    table = list(csv.DictReader((tmp_path / "importance.csv").open(newline="")))
    assert [line["parameter"] for line in table] == [row.parameter for row in rows]
    assert {line["verdict"] for line in table} <= {"mattered", "unclear", "no effect"}
    assert cv2.imread(str(tmp_path / "importance.png")) is not None
    (axes,) = importance_figure(rows).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.parameter for row in rows]
    assert {path.name for path in tmp_path.iterdir()} <= set(WRITTEN_BY_RUNS), "exist_ok deletes them"
    assert write_importance(tmp_path, [], SPACE) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_trees")
def test_a_run_tells_its_importances(tmp_path) -> None:
    folder = typical_tune_folder(tmp_path / "run")
    run = Run(folder.path)
    assert run.importances() == [], "six trials are too few"
    rng = np.random.default_rng(0)
    for lr0 in 10 ** rng.uniform(-5, -1, 20):
        folder.trial([0.1, float(0.8 - 0.2 * abs(np.log10(lr0) + 3))], lr0=float(lr0))
    first = run.importances()[0]
    assert (first.parameter, first.verdict) == ("lr0", "mattered")
