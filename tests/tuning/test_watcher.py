"""Deaths of trials' processes, in the order of Ray Tune's calls, with real parts but without Ray."""

import io

import pytest
from optuna.trial import TrialState
from ray.exceptions import RayActorError
from rich.console import Console

from tests.tuning.test_searcher import Search
from tunekit.tuning.board import Board
from tunekit.tuning.books import Books
from tunekit.tuning.desk import Desk
from tunekit.tuning.display import Display
from tunekit.tuning.result import DEATHS_OF_A_TRIAL
from tunekit.tuning.watcher import Watcher

NODE = "The actor died because its node has died."


class Tune:
    """Runs trial 0 as Tune does: one whose process dies is started again while it has failures left, unless
    the process was not up, or the death was told before by another call."""

    def __init__(self, folder):
        self.search = Search(folder, iterations=1)
        self.said = io.StringIO()
        board = Board(1, 9, 1)
        display = Display(Console(file=self.said, width=300), board, ["lr0"])
        control, space = self.search.control, self.search.space
        self.watcher = Watcher(
            self.search.searcher,
            self.search.study,
            Books(folder, self.search.study),
            display,
            control,
            Desk(folder, space, self.search.searcher, None, board, control),
        )
        self.actors, self.trials = 0, 0
        self.begin()

    def begin(self):
        """A trial of Tune's, with a process."""
        self.trials += 1
        self.trial_id, self.num_failures, self.max_failures = str(self.trials), 0, DEATHS_OF_A_TRIAL
        self.config = self.search.searcher.suggest(self.trial_id)
        self.start()

    def start(self):
        self.actors += 1
        self.watcher.on_trial_start(0, [], self)

    def get_pickled_error(self):
        return RayActorError(str(self.actors), self.words)

    def epoch(self, epoch):
        result = {"number": 0, "epoch": epoch, "fitness": 0.1}
        self.search.epoch(self.trial_id, **result)
        self.watcher.on_trial_result(0, [], self, result)

    def die(self, words="killed", up=True):
        """Whether the trial is tried again."""
        self.words, self.num_failures = words, self.num_failures + 1
        if up and self.num_failures <= self.max_failures:
            self.watcher.on_trial_recover(0, [], self)
            self.start()
            return True
        self.search.searcher.on_trial_complete(self.trial_id, error=True)
        self.watcher.on_trial_error(0, [], self)
        if self.state == TrialState.RUNNING:
            self.begin()
        return self.state == TrialState.RUNNING

    @property
    def state(self):
        return self.search.trial(0).state


@pytest.fixture
def ray_tune(tmp_path):
    return Tune(tmp_path)


@pytest.mark.parametrize("up", [True, False])
def test_a_trial_whose_processes_die_one_after_another_is_given_up(ray_tune, up):
    assert [ray_tune.die(up=up) for _ in range(DEATHS_OF_A_TRIAL)] == [True] * DEATHS_OF_A_TRIAL
    assert not ray_tune.die(up=up)
    assert ray_tune.state == TrialState.FAIL
    reason = f"its process died {DEATHS_OF_A_TRIAL + 1} times in a row (killed, or out of memory?)"
    assert ray_tune.search.trial(0).user_attrs["reason"] == reason
    assert ray_tune.said.getvalue().count("its process broke off; it is started again") == DEATHS_OF_A_TRIAL


def test_deaths_count_together_whether_a_process_was_up_or_not(ray_tune):
    assert [ray_tune.die(up=up) for up in (True, False, True, True, False)] == [True] * 5
    assert not ray_tune.die()


def test_a_death_that_two_calls_tell_of_is_one(ray_tune):
    for _ in range(DEATHS_OF_A_TRIAL):
        ray_tune.words, ray_tune.num_failures = "killed", ray_tune.num_failures + 1
        ray_tune.watcher.on_trial_recover(0, [], ray_tune)
        assert ray_tune.die(up=False)
    assert not ray_tune.die()


def test_an_epoch_between_begins_the_count_anew(ray_tune):
    for epoch in range(1, 4):
        ray_tune.epoch(epoch)
        assert all(ray_tune.die(up=up) for up in (True, False, True, True, False))
    assert not ray_tune.die()


@pytest.mark.parametrize("up", [True, False])
def test_the_death_of_a_node_is_never_the_trials(ray_tune, up):
    assert all(ray_tune.die(NODE, up) for _ in range(3 * DEATHS_OF_A_TRIAL))
    assert all(ray_tune.die() for _ in range(DEATHS_OF_A_TRIAL))
    assert ray_tune.die(NODE)
    assert not ray_tune.die()
