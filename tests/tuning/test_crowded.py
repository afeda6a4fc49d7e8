"""Trials on two workers each, where there is room for few of them: they wait for it, never for each other."""

from __future__ import annotations

import threading
import time

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from tests.tuning.test_run import TINY
from tunekit.checks import build_args
from tunekit.results.run import Run
from tunekit.search_args import TuneArgs
from tunekit.tuning.run import tune

PAIRS = {**TINY, "imgsz": 64, "epochs": 2, "workers": 2, "cpus": 1, "threads": 1, "device": "cpu"}
AWAY_SECONDS = 130.0  # longer than Ray Train waits for room before it begins anew


@pytest.fixture
def room(request):
    """The cores that Ray believes in; there may be fewer."""
    ray.init(address="local", num_cpus=request.param, include_dashboard=False, log_to_driver=False)
    yield request.param
    ray.shutdown()


def search(**given) -> Run:
    return tune(build_args(TuneArgs, {**PAIRS, "name": "crowded", **given}))


def assert_all_done(run: Run, trials: int) -> None:
    assert [(row.number, row.state) for row in run.trials] == [(n, "COMPLETE") for n in range(trials)]
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "all should be given back"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("room", [2, 6], indirect=True)
def test_more_trials_than_there_is_room_for_take_turns(room, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    slots = room // 2
    run = search(iterations=slots + 2)
    trials = f"{slots} trial{'s' if slots > 1 else ''} at a time on 2 workers"
    assert trials in capsys.readouterr().out
    assert_all_done(run, slots + 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("room", [2, 6], indirect=True)
def test_a_search_waits_while_somebody_else_has_a_part_of_its_room(room, tmp_path, monkeypatch, capsys):
    """Half of it: a core, that each pair of workers lacks, or a core more than one pair needs."""
    monkeypatch.chdir(tmp_path)
    others = placement_group([{"CPU": room // 2}])
    ray.get(others.ready())
    table = tmp_path / "runs/tune/crowded/tune_results.csv"
    seen = []

    def give_back() -> None:
        time.sleep(AWAY_SECONDS)
        deadline = time.monotonic() + 240
        while room == 6 and not table.exists() and time.monotonic() < deadline:
            time.sleep(0.5)  # a busy machine takes its time
        seen.append(table.exists())
        remove_placement_group(others)

    thread = threading.Thread(target=give_back)
    thread.start()
    run = search(iterations=room // 2 + 1)
    thread.join()
    assert seen == [room == 6], "one pair of three fits beside the other job"
    assert_all_done(run, room // 2 + 1)
    if room == 2:
        assert "no trial could begin yet: others may be using the cluster" in capsys.readouterr().out
