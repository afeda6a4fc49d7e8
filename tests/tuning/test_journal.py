import json
from contextlib import suppress

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tunekit.tuning.journal import Journal, together


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.journal"


@pytest.fixture
def study(path):
    return optuna.create_study(storage=JournalStorage(Journal(path)), study_name="s", direction="maximize")


def lines(path):
    return path.read_text().splitlines()


def ask(study):
    return study.ask({name: optuna.distributions.FloatDistribution(0, 1) for name in "abc"})


def as_read_by_optuna(path):
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    return [(trial.state, trial.params, trial.value, trial.intermediate_values) for trial in study.trials]


def test_what_belongs_together_is_written_at_once_and_seen_before(study, path, monkeypatch):
    waits = []
    monkeypatch.setattr("os.fsync", waits.append)
    before = lines(path)
    with together(study):
        trial = ask(study)
        trial.report(0.5, 1)
        assert len(study.trials) == 1
        assert study.trials[0].params == trial.params
        assert study.trials[0].intermediate_values == {1: 0.5}
        assert lines(path) == before
    assert len(lines(path)) == len(before) + 5
    assert len(waits) == 1


def test_what_is_told_together_and_alone_and_by_turns_is_what_optuna_reads(study, path):
    for number in range(6):
        with together(study):
            trial = ask(study)
        trial.report(number / 10, 1)
        with together(study):
            pass
        if number % 2:
            with together(study):
                trial.set_user_attr("epochs", 1)
                study.tell(trial, number)
        elif number:
            study.tell(trial, state=TrialState.PRUNED)
    found = as_read_by_optuna(path)
    assert found == [(one.state, one.params, one.value, one.intermediate_values) for one in study.trials]
    assert [state.name for state, *_ in found] == [
        "RUNNING",
        "COMPLETE",
        "PRUNED",
        "COMPLETE",
        "PRUNED",
        "COMPLETE",
    ]


def test_an_entry_is_parsed_once(study, path, monkeypatch):
    """Whoever loses the place in the file reads it from the beginning, at every event."""
    parsed = []
    loads = json.loads
    monkeypatch.setattr("json.loads", lambda line: (parsed.append(line), loads(line))[1])
    for _ in range(5):
        with together(study):
            ask(study)
        study.get_trials()
    assert len([line for line in parsed if isinstance(line, bytes)]) == 5 * 4


def test_a_fault_in_the_middle_leaves_what_was_told_before_it(study, path):
    with suppress(RuntimeError), together(study):
        ask(study)
        raise RuntimeError("midway")
    assert len(as_read_by_optuna(path)) == 1
    ask(study)
    assert len(as_read_by_optuna(path)) == 2


def test_a_journal_is_taken_up(study, path):
    with together(study):
        ask(study)
    again = optuna.load_study(study_name="s", storage=JournalStorage(Journal(path)))
    with together(again):
        ask(again)
    assert len(as_read_by_optuna(path)) == 2
