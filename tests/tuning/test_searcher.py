"""The searcher as Ray Tune calls it, over a real study on disk, without Ray."""

import itertools
import json

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState
from ray.tune.search import Searcher

from tunekit.control import Control
from tunekit.errors import RunFolderError
from tunekit.results.trials import trial_row
from tunekit.search.budget import Budget
from tunekit.search.samplers import make_sampler
from tunekit.search.space import Parameter, Space, load_space
from tunekit.search_args import TuneArgs
from tunekit.tuning.answer import early
from tunekit.tuning.searcher import StudySearcher
from tunekit.tuning.study import check_same_data, create_study, open_study, scores

DATA = {"names": ["cat", "dog"], "training images": 10, "validation images": 5}


class Search:
    """One sitting of a search in `folder`, and the hand that plays Ray."""

    def __init__(
        self,
        folder,
        iterations=4,
        concurrent=2,
        new=True,
        stop=None,
        hours=None,
        sampler="random",
        space=None,
        costs=(),
    ):
        self.space = space or load_space("quick")
        sampler = make_sampler(sampler, self.space, 0)
        if new:
            self.study = create_study(folder, sampler, self.space.defaults(), DATA, costs)
        else:
            self.study = open_study(folder, sampler)
        self.folder, self.control, self.now = folder, Control(), 0.0
        self.args = TuneArgs(iterations=iterations, stop=stop, time=hours)
        self.searcher = StudySearcher(
            self.study,
            self.space,
            folder,
            iterations=iterations,
            concurrent=concurrent,
            budget=Budget(stop, hours, lambda: self.now),
            control=self.control,
        )

    def epoch(self, ray_id, number, epoch, fitness, **more):
        """A trial's epoch: its row on disk, then the news."""
        write_curve(self.folder, number, {**read_curve_of(self.folder, number), epoch: fitness})
        result = {"number": number, "epoch": epoch, "fitness": fitness, **more}
        if more.get("done"):
            self.searcher.on_trial_complete(ray_id, result=result)
        else:
            self.searcher.on_trial_result(ray_id, result)
        if self.control.fault:
            raise self.control.fault

    def whole_trial(self, number, fitness, **how):
        """Handed out, trained for an epoch, over."""
        assert self.searcher.suggest(str(number))["number"] == number
        self.epoch(str(number), number, 1, fitness, **{"done": True, "finished": True, **how})

    def told(self):
        """What the user is told of an early end."""
        return "\n".join(early(self.folder, self.args, self.searcher))

    def trial(self, number):
        return self.study.trials[number]


def read_curve_of(folder, number):
    path = folder / "trials" / str(number) / "results.csv"
    if not path.exists():
        return {}
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return {int(row[0]): float(row[2]) for row in rows}


def write_curve(folder, number, curve):
    path = folder / "trials" / str(number) / "results.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{epoch},{epoch * 1.5},{fitness}" for epoch, fitness in curve.items()]
    path.write_text("\n".join(["epoch,time,metrics/mAP50-95(B)", *rows]) + "\n")


@pytest.fixture
def search(tmp_path):
    return Search(tmp_path)


def test_trial_0_is_the_defaults_and_no_more_are_handed_out_than_may_run(search):
    first, second = search.searcher.suggest("a"), search.searcher.suggest("b")
    assert first == {"number": 0, "params": search.space.defaults()}
    assert second["number"] == 1
    assert second["params"] != first["params"]
    assert search.searcher.suggest("c") is None
    search.epoch("a", 0, 1, 0.5, done=True, finished=True)
    assert search.searcher.suggest("c")["number"] == 2


def test_a_search_of_n_iterations_hands_out_n_trials(tmp_path):
    search = Search(tmp_path, iterations=3)
    for number in range(3):
        assert search.searcher.suggest(str(number))["number"] == number
        search.epoch(str(number), number, 1, 0.1, done=True, finished=True)
    assert search.searcher.suggest("x") == Searcher.FINISHED


def test_a_finished_trial_is_worth_its_best_epoch(search):
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.2)
    search.epoch("a", 0, 2, 0.6)
    search.epoch("a", 0, 3, 0.4, done=True, finished=True)
    trial = search.trial(0)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.6)
    assert trial.intermediate_values == {1: 0.2, 2: 0.6, 3: 0.4}
    assert trial.user_attrs["metrics"] == {"metrics/mAP50-95(B)": 0.6}
    assert (trial.user_attrs["epochs"], trial.user_attrs["seconds"]) == (3, 4.5)


def test_a_trial_that_the_scheduler_stopped_is_pruned_with_its_whole_curve(search):
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.2)
    # Ray tells the epoch it stopped at only with the end.
    search.epoch("a", 0, 2, 0.1, done=True, finished=False)
    trial = search.trial(0)
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.2, 2: 0.1}


def test_a_failed_trial_keeps_its_reason_and_has_no_value(search):
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.3)
    search.epoch("a", 0, 1, 0.3, done=True, failed="the loss is not finite")
    trial = search.trial(0)
    assert (trial.state, trial.value) == (TrialState.FAIL, None)
    assert trial.user_attrs["reason"] == "the loss is not finite"


def test_a_trial_given_up_by_ray_is_told_once_with_the_reason(search):
    search.searcher.suggest("a")
    search.searcher.on_trial_complete("a", error=True)
    assert search.trial(0).state == TrialState.RUNNING
    search.searcher.died("a", "its process died")
    assert search.trial(0).state == TrialState.FAIL
    assert search.trial(0).user_attrs["reason"] == "its process died"


def test_a_trial_given_up_by_ray_too_early_is_handed_out_again(search):
    given = search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.3)
    search.searcher.on_trial_complete("a", error=True)
    search.searcher.again("a")
    assert search.searcher.suggest("b") == given
    search.epoch("b", 0, 2, 0.4)
    assert search.trial(0).state == TrialState.RUNNING
    assert search.trial(0).intermediate_values == {1: 0.3, 2: 0.4}


def test_a_fault_of_the_disk_in_a_trial_ends_the_search_and_leaves_the_trial_to_be_resumed(search):
    search.searcher.suggest("a")
    result = {"number": 0, "epoch": 0, "fitness": 0.0, "halted": "cannot write x: No space left on device"}
    search.searcher.on_trial_complete("a", result=result)
    assert isinstance(search.control.fault, RunFolderError)
    assert search.trial(0).state == TrialState.RUNNING
    assert search.searcher.suggest("b") == Searcher.FINISHED


def test_interrupted_trials_are_handed_out_again_first_under_their_numbers(tmp_path):
    search = Search(tmp_path)
    taken = [search.searcher.suggest("a"), search.searcher.suggest("b")]
    search.epoch("a", 0, 1, 0.5)
    write_curve(tmp_path, 0, {1: 0.5, 2: 0.7})  # an epoch whose news died with the driver

    again = Search(tmp_path, new=False)
    assert again.trial(0).intermediate_values == {1: 0.5, 2: 0.7}, "the scheduler replays them"
    assert [again.searcher.suggest("c"), again.searcher.suggest("d")] == taken
    again.epoch("c", 0, 3, 0.6, done=True, finished=True)
    assert again.trial(0).value == 0.7
    assert again.searcher.suggest("e")["number"] == 2
    assert [trial.number for trial in again.study.trials] == [0, 1, 2]


def test_a_search_cut_before_trial_0_began_still_begins_with_the_defaults(tmp_path):
    Search(tmp_path)
    again = Search(tmp_path, iterations=1, new=False)
    assert again.searcher.suggest("a") == {"number": 0, "params": again.space.defaults()}
    again.epoch("a", 0, 1, 0.5, done=True, finished=True)
    assert again.searcher.suggest("b") == Searcher.FINISHED


def test_a_search_can_be_extended(tmp_path):
    search = Search(tmp_path, iterations=1)
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.5, done=True, finished=True)
    longer = Search(tmp_path, iterations=2, new=False)
    assert longer.searcher.left == 1
    assert longer.searcher.suggest("b")["number"] == 1


def test_a_search_ends_when_its_last_trials_have_brought_nothing_better(tmp_path):
    search = Search(tmp_path, iterations=10, stop=2)
    search.whole_trial(0, 0.3)
    search.whole_trial(1, 0.5)
    search.whole_trial(2, 0.5, finished=False)  # stopped; as good is not better
    search.whole_trial(3, 0.1, failed="the loss is not finite")  # says nothing of the others
    assert search.told() == ""
    search.whole_trial(4, 0.4)
    assert search.searcher.suggest("x") == Searcher.FINISHED
    assert "the last 2 trials brought nothing better (stop=2); for more: tunekit tune" in search.told()
    assert search.told().endswith(" stop=None")


def test_a_trial_that_still_runs_may_take_the_end_back(tmp_path):
    search = Search(tmp_path, iterations=10, concurrent=2, stop=1)
    search.searcher.suggest("late")
    search.whole_trial(1, 0.5)
    search.whole_trial(2, 0.4)
    assert search.searcher.suggest("x") is None, "trial 0 still runs"
    search.epoch("late", 0, 1, 0.6, done=True, finished=True)
    assert search.searcher.suggest("x")["number"] == 3


def test_the_order_that_counts_is_that_of_the_ends_and_a_resume_knows_it(tmp_path):
    search = Search(tmp_path, iterations=10, stop=2)
    search.searcher.suggest("late")
    search.whole_trial(1, 0.3)
    search.whole_trial(2, 0.4)
    search.epoch("late", 0, 1, 0.5, done=True, finished=True)  # by number it came before the two
    again = Search(tmp_path, iterations=10, stop=2, new=False)
    again.whole_trial(3, 0.1)
    again.whole_trial(4, 0.1)
    assert again.searcher.suggest("x") == Searcher.FINISHED
    ended = Search(tmp_path, iterations=10, stop=2, new=False)
    assert ended.searcher.spent == "stop"
    assert ended.searcher.suggest("x") == Searcher.FINISHED
    assert Search(tmp_path, iterations=10, stop=3, new=False).searcher.suggest("x")["number"] == 5


def test_a_clock_that_is_set_back_changes_nothing_in_the_order_of_the_ends(tmp_path, monkeypatch):
    clock = itertools.count(2e9, -3600)
    monkeypatch.setattr("time.time", lambda: next(clock))
    search = Search(tmp_path, iterations=10)
    for number, fitness in enumerate((0.5, 0.1, 0.2)):
        search.whole_trial(number, fitness)
    again = Search(tmp_path, iterations=10, new=False)
    again.whole_trial(3, 0.3, failed="it has no score, but a place")
    again.whole_trial(4, 0.4)
    assert scores(again.study) == [0.5, 0.1, 0.2, 0.4]


def test_an_interrupted_trial_is_finished_even_when_the_others_have_brought_nothing_better(tmp_path):
    search = Search(tmp_path, iterations=10, stop=1)
    search.searcher.suggest("a")
    search.whole_trial(1, 0.5)
    search.whole_trial(2, 0.4)
    again = Search(tmp_path, iterations=10, stop=1, new=False)
    assert again.searcher.spent == ""
    assert again.searcher.suggest("b")["number"] == 0
    again.epoch("b", 0, 1, 0.1, done=True, finished=True)
    assert again.searcher.suggest("c") == Searcher.FINISHED


def test_when_the_time_is_up_nothing_is_handed_out_and_what_runs_is_cut_off(tmp_path):
    search = Search(tmp_path, iterations=10, hours=2)
    search.whole_trial(0, 0.5)
    search.searcher.suggest("a")
    search.searcher.suggest("b")
    search.now = 7200
    assert search.searcher.suggest("x") == Searcher.FINISHED
    search.epoch("a", 1, 1, 0.4, done=True, finished=False)  # the scheduler stops it
    search.epoch("b", 2, 1, 0.4, done=True, finished=True)  # that was its last epoch
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert [trial.state for trial in search.study.trials] == states
    assert search.trial(1).user_attrs["reason"] == "the search's time was up"
    assert "the time was up (time=2); 1 of its trials ended before their last epoch; for" in search.told()
    again = Search(tmp_path, iterations=10, hours=2, new=False)
    assert again.searcher.suggest("c")["number"] == 3, "earlier sittings do not count"


def test_time_that_cuts_off_the_last_trials_is_told_with_how_many_more_would_make_up_for_them(tmp_path):
    search = Search(tmp_path, iterations=2, hours=1)
    search.whole_trial(0, 0.5)
    search.searcher.suggest("a")
    search.now = 3600
    search.epoch("a", 1, 1, 0.4, done=True, finished=False)
    assert search.told().endswith(" iterations=3")


def test_a_search_that_came_to_its_end_in_time_has_nothing_to_tell(tmp_path):
    search = Search(tmp_path, iterations=2, stop=1, hours=1)
    search.whole_trial(0, 0.5)
    search.whole_trial(1, 0.4, finished=False)
    search.now = 3600
    assert search.searcher.suggest("x") == Searcher.FINISHED
    assert search.told() == ""
    assert "reason" not in search.trial(1).user_attrs


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_journal_whose_writer_was_killed_in_the_middle_of_a_line_goes_on(tmp_path, cut):
    search = Search(tmp_path)
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.5)
    journal = tmp_path / "study.journal"
    line = json.dumps({"op_code": 9, "worker_id": "x", "trial_id": 0, "user_attr": {"reason": "half"}})
    with journal.open("a") as file:
        file.write(line[:cut])
    (tmp_path / "study.journal.lock").symlink_to(journal)  # Optuna would wait 30 s for it

    again = Search(tmp_path, new=False)
    again.searcher.suggest("b")
    again.epoch("b", 0, 2, 0.6, done=True, finished=True)
    assert Search(tmp_path, new=False).trial(0).value == 0.6


def test_a_study_of_another_data_set_is_refused_by_what_differs(tmp_path):
    study = Search(tmp_path).study
    check_same_data(tmp_path, study, DATA)
    with pytest.raises(RunFolderError, match=r"another data set: names were cat, dog, now they are cow"):
        check_same_data(tmp_path, study, {**DATA, "names": ["cow"]})
    with pytest.raises(RunFolderError, match=r"validation images were 5, now they are 6"):
        check_same_data(tmp_path, study, {**DATA, "validation images": 6})


def test_a_damaged_journal_is_an_error_and_a_missing_one_is_not_made(tmp_path):
    sampler = optuna.samplers.RandomSampler()
    with pytest.raises(RunFolderError, match=r"no tune is there .*study\.journal"):
        open_study(tmp_path, sampler)
    assert not (tmp_path / "study.journal").exists()
    (tmp_path / "study.journal").write_text("this is no journal\nat all\n")
    with pytest.raises(RunFolderError, match="cannot be read"):
        open_study(tmp_path, sampler)


def test_an_epoch_whose_news_died_is_told_with_the_next_one(search):
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.1)
    write_curve(search.folder, 0, {1: 0.1, 2: 0.2})  # and then the process died
    search.epoch("a", 0, 3, 0.3)
    assert search.trial(0).intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
    assert search.searcher.curve(0) == {1: 0.1, 2: 0.2, 3: 0.3}


def test_what_is_added_is_tried_next_also_beyond_the_last_trial_and_after_a_resume(tmp_path):
    first = Search(tmp_path, iterations=2, concurrent=2)
    first.searcher.suggest("a")
    first.searcher.suggest("b")
    assert first.searcher.suggest("c") is None, "all are handed out, but they run: more may be added"
    mine = {**first.space.defaults(), "lr0": 0.0123}
    assert first.searcher.add(mine) == 2
    assert first.searcher.left == 1
    assert first.searcher.suggest("c") is None, "two run"
    first.epoch("a", 0, 1, 0.1, done=True, finished=True)

    second = Search(tmp_path, iterations=2, concurrent=3, new=False)
    numbers = [second.searcher.suggest(name) for name in ("x", "y")]
    assert numbers[0]["number"] == 1, "what was interrupted comes first"
    assert numbers[1] == {"number": 2, "params": mine}
    assert second.searcher.left == 0


def test_a_trial_that_was_asked_to_end_is_told_as_such(search):
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.1)
    search.searcher.unwanted.add(0)
    search.searcher.on_trial_complete("a", {"number": 0, "epoch": 1, "fitness": 0.1})
    assert search.trial(0).state == TrialState.PRUNED
    assert search.trial(0).user_attrs["reason"] == "stopped on request"


def test_a_grid_ends_the_search_when_it_is_used_up_and_added_trials_take_none_of_its_points(tmp_path):
    space = Space("one", (Parameter(name="mixup", kind="float", prior=0.2),))
    (tmp_path / "run").mkdir()
    search = Search(tmp_path / "run", iterations=9, concurrent=1, sampler="grid", space=space)
    search.whole_trial(0, 0.1)
    assert search.searcher.left == 3
    assert search.told() == ""
    search.searcher.add({"mixup": 0.3})
    assert search.searcher.left == 4
    for number in range(1, 5):
        search.whole_trial(number, 0.1)
    assert search.searcher.suggest("5") == Searcher.FINISHED
    assert [trial.params["mixup"] for trial in search.study.trials[:2]] == [0.2, 0.3]
    assert sorted(trial.params["mixup"] for trial in search.study.trials[2:]) == [0.0, 0.5, 1.0]
    assert search.told().startswith("ended early: every point of the grid has been tried")


def several(folder, **more):
    """A search for fitness, latency and parameters."""
    space = load_space("scales")
    return Search(folder, **{"space": space, "sampler": "nsga2", "costs": ("latency", "parameters"), **more})


def measured(latency):
    return [("latency", latency), ("parameters", 2.6)]


def test_with_several_objectives_a_complete_trial_has_all_values_and_its_curve(tmp_path):
    search = several(tmp_path)
    search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.6)
    search.epoch("a", 0, 2, 0.4, done=True, finished=True, costs=measured(9.5))
    assert search.study.directions == [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * 2]
    assert search.study.metric_names == ["fitness", "latency", "parameters"]
    trial = search.trial(0)
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.6, 9.5, 2.6])
    assert trial.intermediate_values == {1: 0.6, 2: 0.4}
    row = trial_row(trial)
    assert (row.fitness, row.costs) == (0.6, {"latency": 9.5, "parameters": 2.6})
    assert search.study.best_trials[0].number == 0


def test_with_several_objectives_a_trial_that_is_cut_off_or_fails_has_none(tmp_path):
    search = several(tmp_path)
    search.whole_trial(0, 0.3, finished=False)
    search.whole_trial(1, 0.5, failed="no memory")
    assert [(trial.state.name, trial.values) for trial in search.study.trials] == [
        ("PRUNED", None),
        ("FAIL", None),
    ]
    assert [(row.fitness, row.costs) for row in map(trial_row, search.study.trials)] == [
        (0.3, {}),
        (None, {}),
    ]
    assert search.searcher.suggest("x")["number"] == 2, "the sampler can do with both"


def test_a_models_first_latency_is_that_of_all_its_trials(tmp_path):
    search = several(tmp_path, iterations=9)
    model = search.space.defaults()["model"]
    for number, latency in enumerate((9.5, 9.4, 9.6)):
        if number:
            search.searcher.add({**search.space.defaults(), "lr0": 0.01 * (1 + number)})
        search.whole_trial(number, 0.1, costs=measured(latency))
    search.searcher.add({**search.space.defaults(), "model": "yolo11s.yaml"})
    search.whole_trial(3, 0.2, costs=measured(20.1))
    assert [trial.values[1] for trial in search.study.trials] == [9.5, 9.5, 9.5, 20.1]
    again = several(tmp_path, iterations=9, new=False)
    again.searcher.add({**again.space.defaults(), "model": model, "lr0": 0.05})
    again.whole_trial(4, 0.2, costs=measured(8.8))
    assert again.trial(4).values[1] == 9.5


def test_an_interrupted_search_for_several_objectives_goes_on(tmp_path):
    search = several(tmp_path)
    taken = search.searcher.suggest("a")
    search.epoch("a", 0, 1, 0.5)
    write_curve(tmp_path, 0, {1: 0.5, 2: 0.7})  # an epoch whose news died with the driver
    again = several(tmp_path, new=False)
    assert again.trial(0).intermediate_values == {1: 0.5, 2: 0.7}
    assert again.searcher.suggest("c") == taken
    again.epoch("c", 0, 2, 0.7, done=True, finished=True, costs=measured(9.5))
    assert again.trial(0).values == [0.7, 9.5, 2.6]
