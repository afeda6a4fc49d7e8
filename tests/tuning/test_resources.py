"""Slots: what was asked for, what there is, and the sentence when the two do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.args import TuneArgs
from tunekit.errors import ResourceError
from tunekit.tuning.resources import Machine, plan_slots


@pytest.mark.parametrize(
    ("machine", "asked", "concurrent", "cpus", "gpus", "device"),
    [
        (Machine(1, 0), {}, 1, 1, 0, "cpu"),
        (Machine(2, 0), {}, 2, 1, 0, "cpu"),
        (Machine(7, 0), {}, 3, 2, 0, "cpu"),
        (Machine(16, 0), {}, 4, 4, 0, "cpu"),
        (Machine(16, 0), {"concurrent": 2}, 2, 8, 0, "cpu"),
        (Machine(16, 0), {"cpus": 1}, 16, 1, 0, "cpu"),
        (Machine(16, 4), {}, 4, 4, 1, "cuda:0"),
        (Machine(16, 4), {"gpus": 0.5}, 8, 2, 0.5, "cuda:0"),
        (Machine(16, 4), {"gpus": 0}, 4, 4, 0, "cpu"),
        (Machine(16, 4), {"device": "cpu"}, 4, 4, 0, "cpu"),
        (Machine(16, 4), {"device": "3"}, 1, 16, 1, "cuda:0"),
        (Machine(16, 4), {"concurrent": 2}, 2, 8, 1, "cuda:0"),
        (Machine(8, 0, mps=True), {}, 1, 2, 0, "mps"),
        (Machine(16, 0), {"iterations": 3}, 3, 4, 0, "cpu"),
    ],
)
def test_what_is_not_asked_for_is_read_from_the_machine(machine, asked, concurrent, cpus, gpus, device):
    slots = plan_slots(TuneArgs(**asked), machine)
    assert (slots.concurrent, slots.cpus, slots.gpus, slots.device) == (concurrent, cpus, gpus, device)


def test_a_gpu_asked_for_by_number_is_the_only_one_used():
    assert plan_slots(TuneArgs(device="3"), Machine(16, 4)).only_gpu == 3
    assert plan_slots(TuneArgs(device="cuda"), Machine(16, 4)).only_gpu is None


@pytest.mark.parametrize(
    ("machine", "asked", "words"),
    [
        (Machine(2, 0), {"concurrent": 3}, "concurrent=3.* 3 trials .* 2 CPU cores and no CUDA GPU"),
        (Machine(2, 0), {"cpus": 4}, "cpus=4.* 2 CPU cores"),
        (Machine(4, 0), {"concurrent": 2, "cpus": 3}, "concurrent=2, cpus=3.* 4 CPU cores"),
        (Machine(2, 0), {"gpus": 1}, "gpus=1.* no CUDA GPU"),
        (Machine(2, 0), {"device": "0"}, "device=0 is not there.* no CUDA GPU"),
        (Machine(16, 2), {"device": "2"}, "device=2 is not there.* 2 GPUs"),
        (Machine(16, 2), {"concurrent": 3}, "concurrent=3.* 2 GPUs"),
        (Machine(16, 2), {"device": "1", "concurrent": 2}, "device=1 is one"),
        (Machine(16, 2), {"gpus": 1.5}, "gpus=1.5"),
        (Machine(16, 2), {"device": "cpu", "gpus": 1}, "gpus=1 .* device=cpu"),
        (Machine(16, 2), {"device": "cuda", "gpus": 0}, "gpus=0"),
        (Machine(2, 0), {"device": "tpu"}, "device=tpu is not there"),
    ],
)
def test_asking_for_more_than_there_is_fails_at_once_with_what_there_is(machine, asked, words):
    with pytest.raises(ResourceError, match=words):
        plan_slots(TuneArgs(**asked), machine)


@given(
    cores=st.integers(1, 64),
    gpus=st.integers(0, 8),
    concurrent=st.none() | st.integers(1, 70),
    cpus=st.none() | st.integers(1, 70),
    share=st.none() | st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]),
)
def test_slots_never_exceed_the_machine(cores, gpus, concurrent, cpus, share):
    try:
        slots = plan_slots(TuneArgs(concurrent=concurrent, cpus=cpus, gpus=share), Machine(cores, gpus))
    except ResourceError:
        assert concurrent or cpus or share, "with nothing asked for, something always fits"
        return
    assert slots.concurrent >= 1
    assert slots.cpus >= 1
    assert slots.concurrent * slots.cpus <= cores
    assert slots.concurrent * slots.gpus <= gpus + 1e-6
    assert concurrent in (None, slots.concurrent)
    assert cpus in (None, slots.cpus)
