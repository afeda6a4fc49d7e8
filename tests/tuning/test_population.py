"""A population's searcher and scheduler as Ray Tune calls them, over a real study on disk, without Ray."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.tune.search import Searcher

from tests.tuning.test_searcher import DATA, read_curve_of, write_curve
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.control import Control
from tunekit.errors import ArgumentError
from tunekit.results.store import write_results
from tunekit.results.trials import JOURNAL
from tunekit.search.budget import Budget
from tunekit.search.samplers import make_sampler
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.tuning.descent import FOLDER, Snapshots
from tunekit.tuning.population import PopulationSearcher
from tunekit.tuning.schedulers import make_scheduler
from tunekit.tuning.storage import Storage
from tunekit.tuning.study import create_study, open_study

EPOCHS, POINTS = 7, (2, 4, 6)


class Killed(Exception):
    """The driver is gone."""


class Search:
    """One sitting of a search in `folder`, with as many slots as `slots`, and the hand that plays Ray.

    Trials are curves that depend on their hyperparameters and those of their ancestors only.
    """

    def __init__(
        self, folder: Path, size: int = 8, slots: int = 3, chance: int = 0, hours: float | None = None
    ):
        new = not folder.exists()
        folder.mkdir(exist_ok=True)
        self.folder, self.slots, self.chance, self.now = folder, slots, random.Random(chance), 0.0
        space = load_space("quick")
        sampler = make_sampler("random", space, 0)
        self.study = (
            create_study(folder, sampler, space.defaults(), DATA) if new else open_study(folder, sampler)
        )
        self.control = Control()
        budget = Budget(None, hours, lambda: self.now)
        args = build_args(
            TuneArgs, {"iterations": size, "epochs": EPOCHS, "grace": 2, "interval": 2, "scheduler": "pbt"}
        )
        base = build_args(TrainArgs, {"epochs": EPOCHS, "warmup_epochs": 0})
        self.scheduler = make_scheduler(args, base, space, budget)
        assert self.scheduler.population is not None
        self.snapshots = Snapshots(self.scheduler.population.points, Storage(str(folder)).below(FOLDER))
        assert self.snapshots.points == POINTS
        self.searcher = PopulationSearcher(
            self.study,
            space,
            folder,
            self.scheduler.population,
            self.snapshots,
            seed=0,
            concurrent=slots,
            budget=budget,
            control=self.control,
        )
        self.scheduler.replay(self.searcher.curves())
        self.scheduler.listen(self.searcher.curve)
        self.live: dict[str, dict[str, Any]] = {}
        self.handed: list[int] = []
        self.asked = 0

    def run(self, events: int = 10**6) -> Search:
        """Until the search ends, or so many epochs have been told: then the driver is killed."""
        for _ in range(events):
            while len(self.live) < self.slots:
                self.asked += 1
                given = self.searcher.suggest(str(self.asked))
                if self.control.fault:
                    raise self.control.fault
                if given == Searcher.FINISHED and not self.live:
                    return self
                if not isinstance(given, dict):
                    break
                self.live[str(self.asked)] = given
                self.handed.append(given["number"])
            ray_id = self.chance.choice(list(self.live))
            self.epoch(ray_id, self.live[ray_id])
        raise Killed

    def epoch(self, ray_id: str, given: dict[str, Any]) -> None:
        """A trial's next epoch: on disk, then told to the searcher and the scheduler as Ray does it."""
        number = given["number"]
        origin = given["origin"]
        curve = read_curve_of(self.folder, number)
        epoch = max(curve, default=origin[1] if origin else 0)
        owes = bool(curve) and epoch in POINTS and epoch > given["told"]
        if owes:
            given["told"] = epoch
        else:
            epoch += 1
            if origin and not curve:
                assert tuple(origin) in self.snapshots.kept(), "its parent's state is there"
            curve[epoch] = self.worth(number) * epoch
            write_curve(self.folder, number, curve)
        if epoch in POINTS:
            (self.folder / "last.pt").write_text("a state")
            self.snapshots.storage.put(self.folder / "last.pt", f"{number}-{epoch}.pt")
        result = {"number": number, "epoch": epoch, "fitness": curve[epoch], "finished": epoch == EPOCHS}
        if epoch == EPOCHS:
            decision = self.scheduler.STOP
        else:
            decision = self.scheduler.on_trial_result(None, None, result)
        if decision == self.scheduler.STOP:
            self.searcher.on_trial_complete(ray_id, result=result)
            self.scheduler.on_trial_complete(None, None, result)
            del self.live[ray_id]
        else:
            self.searcher.on_trial_result(ray_id, result)
        if self.control.fault:
            raise self.control.fault

    def worth(self, number: int) -> float:
        trial = self.study.get_trials(deepcopy=False)[number]
        return random.Random(f"{sorted(trial.params.items())} b").random() / 10

    def rows(self) -> list[tuple[Any, ...]]:
        return [
            (t.number, t.state.name, t.params, t.intermediate_values, t.user_attrs.get("origin"))
            for t in self.study.get_trials()
        ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Search(tmp_path_factory.mktemp("whole") / "run").run()


def test_losers_make_room_for_children_of_the_best(whole):
    trials = whole.study.get_trials()
    assert len(trials) == 8 + 3 * 2, "two at each of three points"
    assert trials[0].state.name == "COMPLETE"
    children = [trial for trial in trials if "origin" in trial.user_attrs]
    assert [trial.number for trial in children] == list(range(8, 14))
    for child in children:
        parent, point = child.user_attrs["origin"]
        loser = trials[child.user_attrs["instead_of"]]
        assert loser.state.name == "PRUNED"
        assert max(loser.intermediate_values) == point
        assert loser.user_attrs["reason"] == f"replaced by trial {child.number}, a child of {parent}"
        assert loser.intermediate_values[point] < trials[parent].intermediate_values[point]
        assert min(child.intermediate_values) == point + 1, "its own epochs alone"
        assert child.params != trials[parent].params
    assert sum(max(t.intermediate_values) == EPOCHS for t in trials) == 8, "so many lines, each to its end"
    assert whole.snapshots.kept() == set()


def test_what_comes_of_it_does_not_depend_on_slots_and_their_order(whole, tmp_path):
    for slots, chance in ((1, 1), (2, 2), (8, 3)):
        search = Search(tmp_path / f"{slots}", slots=slots, chance=chance).run()
        assert search.rows() == whole.rows()


@pytest.mark.parametrize("seed", range(6))
def test_nor_on_drivers_that_are_killed(whole, tmp_path, seed):
    chance, folder, kills = random.Random(seed), tmp_path / "run", 0
    while True:
        try:
            search = Search(folder, chance=seed + kills).run(events=chance.randrange(1, 25))
            break
        except Killed:
            kills += 1
    assert kills > 2
    assert search.rows() == whole.rows()


def test_nor_on_a_driver_that_is_killed_while_it_writes_down_what_a_point_brought(whole, tmp_path):
    search, journal = Search(tmp_path / "run"), tmp_path / "run" / JOURNAL
    while b"instead_of" not in journal.read_bytes():
        with pytest.raises(Killed):
            search.run(events=1)
    lines = journal.read_bytes().splitlines(keepends=True)
    born = next(place for place, line in enumerate(lines) if b"instead_of" in line)
    assert len(lines) > born + 2, "the loser's end comes after its child"
    journal.write_bytes(b"".join(lines[: born + 1]))
    assert Search(tmp_path / "run").run().rows() == whole.rows()


def test_an_epoch_whose_state_was_not_kept_before_a_kill_is_told_again(whole, tmp_path):
    search = Search(tmp_path / "run", slots=4)
    search.searcher.suggest("a")
    given = search.searcher.suggest("b")
    search.epoch("b", given)
    write_curve(search.folder, 1, {1: search.worth(1), 2: search.worth(1) * 2})  # and then all died
    again = Search(tmp_path / "run", slots=8)
    assert 2 not in again.searcher.curves()[1]
    told = {given["number"]: given["told"] for given in map(again.searcher.suggest, "abcdefgh")}
    assert told == {number: int(number == 1) for number in range(8)}
    assert Search(tmp_path / "run").run().rows() == whole.rows()


def test_a_slot_is_never_idle_while_somebody_may_go_on(tmp_path):
    search = Search(tmp_path / "run", slots=4)
    with pytest.raises(Killed):
        search.run(events=20)
    assert len(search.live) >= 3
    fates = {n: search.scheduler.population.fate(n) for n in range(8)}
    waiting = set(range(8)) - {given["number"] for given in search.live.values()}
    assert all(fates[number] != "goes on" for number in waiting) or len(search.live) == 4


def test_when_the_time_is_up_trials_rest_and_a_resume_goes_on_with_them(whole, tmp_path):
    search = Search(tmp_path / "run", hours=1)
    with pytest.raises(Killed):
        search.run(events=11)
    search.now = 3601
    search.run()
    states = {trial.state.name for trial in search.study.get_trials()}
    assert states <= {"RUNNING", "WAITING", "PRUNED"}
    assert search.searcher.spent == "time"
    assert Search(tmp_path / "run").run().rows() == whole.rows()


def test_a_failed_trial_is_replaced_and_one_stopped_by_its_user_is_not(tmp_path):
    search = Search(tmp_path / "run", size=4, slots=4)
    with pytest.raises(Killed):
        search.run(events=0)
    while len(search.live) < 4:
        search.asked += 1
        search.live[str(search.asked)] = search.searcher.suggest(str(search.asked))
    by_number = {given["number"]: ray_id for ray_id, given in search.live.items()}
    failed = {"number": 3, "epoch": 0, "fitness": 0.0, "failed": "no memory"}
    search.searcher.on_trial_complete(by_number[3], result=failed)
    search.scheduler.on_trial_complete(None, None, failed)
    search.searcher.unwanted.add(2)
    search.scheduler.end(2)
    del search.live[by_number[3]]
    search.run()
    trials = search.study.get_trials()
    assert trials[3].state.name == "FAIL"
    assert trials[2].state.name == "PRUNED"
    assert trials[2].user_attrs["reason"] == "stopped on request"
    assert [trial.user_attrs["instead_of"] for trial in trials[4:5]] == [3]
    assert all(trial.user_attrs["instead_of"] != 2 for trial in trials[4:])


def test_the_population_cannot_be_changed_and_takes_no_more(whole):
    with pytest.raises(ArgumentError, match=r"iterations=9: .* has begun with 8"):
        Search(whole.folder, size=9)
    assert "start a new run" in whole.searcher.refusal


def test_the_folder_says_with_what_the_best_weights_were_trained(whole):
    trials = write_results(whole.folder, whole.study)
    best = max((t for t in trials if t.state in ("COMPLETE", "PRUNED")), key=lambda t: t.fitness)
    schedule = yaml.safe_load((whole.folder / "pbt_schedule.yaml").read_text())
    assert best.origin is not None, "or the seed shows nothing"
    line = schedule["best"]
    assert line[-1]["trial"] == best.number
    assert line[-1]["hyperparameters"] == best.params
    assert line[0]["epochs"][0] == 1
    assert line[-1]["epochs"][1] == EPOCHS
    for before, after in pairwise(line):
        assert after["epochs"][0] == before["epochs"][1] + 1
        assert trials[after["trial"]].origin == (before["trial"], before["epochs"][1])
    assert [entry["by"] for entry in schedule["replaced"]] == list(range(8, 14))
    (whole.folder / "args.yaml").write_text("iterations: 8\n")
    write_results(whole.folder, whole.study)
    header = (whole.folder / "best_hyperparameters.yaml").read_text()
    assert "14/14 iterations: 8 complete, 6 stopped early, 0 failed" in header
    assert "pbt_schedule.yaml has those before" in header
