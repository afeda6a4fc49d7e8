"""Slots: what was asked for, what there is, and the sentence when the two do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import ResourceError
from tunekit.search_args import TuneArgs
from tunekit.tuning.resources import Machine, Node, plan_slots


def machine(cores: int, gpus: int = 0, mps: bool = False) -> Machine:
    return Machine((Node("here", cores, gpus),), mps)


def cluster(*nodes: tuple[int, int]) -> Machine:
    return Machine(tuple(Node(f"node{place}", *node) for place, node in enumerate(nodes)))


@pytest.mark.parametrize(
    ("there", "asked", "concurrent", "cpus", "gpus", "device"),
    [
        (machine(1, 0), {}, 1, 1, 0, "cpu"),
        (machine(2, 0), {}, 2, 1, 0, "cpu"),
        (machine(7, 0), {}, 3, 2, 0, "cpu"),
        (machine(16, 0), {}, 4, 4, 0, "cpu"),
        (machine(16, 0), {"concurrent": 2}, 2, 8, 0, "cpu"),
        (machine(16, 0), {"cpus": 1}, 16, 1, 0, "cpu"),
        (machine(16, 4), {}, 4, 4, 1, "cuda:0"),
        (machine(16, 4), {"gpus": 0.5}, 8, 2, 0.5, "cuda:0"),
        (machine(16, 4), {"gpus": 0}, 4, 4, 0, "cpu"),
        (machine(16, 4), {"device": "cpu"}, 4, 4, 0, "cpu"),
        (machine(16, 4), {"device": "3"}, 1, 16, 1, "cuda:0"),
        (machine(16, 4), {"concurrent": 2}, 2, 8, 1, "cuda:0"),
        (machine(8, 0, mps=True), {}, 1, 2, 0, "mps"),
        (machine(16, 0), {"iterations": 3}, 3, 4, 0, "cpu"),
    ],
)
def test_what_is_not_asked_for_is_read_from_the_machine(there, asked, concurrent, cpus, gpus, device):
    slots = plan_slots(TuneArgs(**asked), there)
    assert (slots.concurrent, slots.cpus, slots.gpus, slots.device) == (concurrent, cpus, gpus, device)


def test_a_gpu_asked_for_by_number_is_the_only_one_used():
    assert plan_slots(TuneArgs(device="3"), machine(16, 4)).only_gpu == 3
    assert plan_slots(TuneArgs(device="cuda"), machine(16, 4)).only_gpu is None


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        (machine(2, 0), {"concurrent": 3}, "concurrent=3.* 3 trials .* 2 CPU cores and no CUDA GPU"),
        (machine(2, 0), {"cpus": 4}, "cpus=4.* 2 CPU cores"),
        (machine(4, 0), {"concurrent": 2, "cpus": 3}, "concurrent=2, cpus=3.* 4 CPU cores"),
        (machine(2, 0), {"gpus": 1}, "gpus=1.* no CUDA GPU"),
        (machine(2, 0), {"device": "0"}, "device=0 is not there.* no CUDA GPU"),
        (machine(16, 2), {"device": "2"}, "device=2 is not there.* 2 GPUs"),
        (machine(16, 2), {"concurrent": 3}, "concurrent=3.* 2 GPUs"),
        (machine(16, 2), {"device": "1", "concurrent": 2}, "device=1 is one"),
        (machine(16, 2), {"gpus": 1.5}, "gpus=1.5"),
        (machine(16, 2), {"device": "cpu", "gpus": 1}, "gpus=1 .* device=cpu"),
        (machine(16, 2), {"device": "cuda", "gpus": 0}, "gpus=0"),
        (machine(2, 0), {"device": "tpu"}, "device=tpu is not there"),
    ],
)
def test_asking_for_more_than_there_is_fails_at_once_with_what_there_is(there, asked, words):
    with pytest.raises(ResourceError, match=words):
        plan_slots(TuneArgs(**asked), there)


@pytest.mark.parametrize(
    ("there", "asked", "concurrent", "cpus", "gpus"),
    [
        (machine(2), {"workers": 2}, 1, 1, 0),
        (machine(16), {"workers": 2}, 2, 4, 0),
        (machine(16), {"workers": 8}, 1, 2, 0),
        (machine(16), {"workers": 2, "cpus": 1}, 8, 1, 0),
        (machine(16, 8), {"workers": 2}, 4, 2, 1),
        (machine(16, 8), {"workers": 3}, 2, 2, 1),
        (machine(16, 8), {"workers": 2, "concurrent": 2}, 2, 4, 1),
        (machine(16), {"workers": 1}, 4, 4, 0),
    ],
)
def test_every_worker_has_a_share_of_its_own(there, asked, concurrent, cpus, gpus):
    slots = plan_slots(TuneArgs(**asked), there)
    assert (slots.concurrent, slots.cpus, slots.gpus, slots.workers) == (
        concurrent,
        cpus,
        gpus,
        asked["workers"],
    )


@pytest.mark.parametrize(
    ("there", "asked", "concurrent", "cpus"),
    [
        (cluster((2, 0), (2, 0)), {}, 4, 1),
        (cluster((16, 0), (8, 0)), {}, 12, 2),
        (cluster((3, 0), (3, 0)), {"cpus": 2}, 2, 2),  # six cores, but no third pair on one node
        (cluster((3, 0), (3, 0)), {"cpus": 1, "workers": 2}, 3, 1),
        (cluster((8, 0), (8, 4)), {}, 4, 2),  # the trials go where GPUs are
        (cluster((8, 4), (8, 4)), {"workers": 8}, 1, 2),
        (cluster((8, 0), (8, 4)), {"gpus": 0}, 8, 2),
        (cluster((4, 0), (4, 0)), {"concurrent": 2}, 2, 4),
        (cluster((0, 0), (8, 0)), {}, 4, 2),  # the head is there for Ray alone
        (cluster((0, 0), (8, 0)), {"concurrent": 2}, 2, 4),
    ],
)
def test_on_a_cluster_a_worker_has_to_fit_on_one_node(there, asked, concurrent, cpus):
    slots = plan_slots(TuneArgs(**asked), there)
    assert (slots.concurrent, slots.cpus) == (concurrent, cpus)


@pytest.mark.parametrize(
    ("there", "asked", "words"),
    [
        (
            machine(2),
            {"workers": 3},
            "workers=3: 1 trial at a time on 3 workers of 1 CPU .* 2 CPU cores",
        ),
        (machine(8, 2), {"workers": 3}, "workers=3: .* 1 GPU each is more than there is: .* 2 GPUs"),
        (machine(8, 4), {"workers": 2, "device": "1"}, "workers=2: .* as device=1 is one GPU"),
        (machine(8, 4), {"workers": 2, "gpus": 0.5}, "gpus=0.5: .* a GPU of its own"),
        (machine(8, 4), {"gpus": 2}, "gpus=2: .* give workers=2"),
        (machine(8, 4), {"device": "0,1"}, "device=0,1: .* give workers=2"),
        (machine(8, 0, mps=True), {"workers": 2}, "workers=2: an MPS device is one"),
        (cluster((3, 0), (3, 0)), {"cpus": 4}, "cpus=4: .* node0: 3 CPU cores and no CUDA GPU; node1"),
        (cluster((3, 0), (3, 0)), {"cpus": 2, "concurrent": 3}, "concurrent=3, cpus=2: 3 trials .* 2 nodes"),
    ],
)
def test_more_workers_than_fit_are_refused_with_what_there_is(there, asked, words):
    with pytest.raises(ResourceError, match=words):
        plan_slots(TuneArgs(**asked), there)


@given(
    nodes=st.lists(st.tuples(st.integers(1, 32), st.integers(0, 8)), min_size=1, max_size=4),
    workers=st.integers(1, 5),
    concurrent=st.none() | st.integers(1, 40),
    cpus=st.none() | st.integers(1, 40),
)
def test_all_workers_of_all_slots_find_a_node_whatever_the_order(nodes, workers, concurrent, cpus):
    there = cluster(*nodes)
    try:
        slots = plan_slots(TuneArgs(workers=workers, concurrent=concurrent, cpus=cpus), there)
    except ResourceError:
        gpus = sum(gpus for _, gpus in nodes)
        assert concurrent or cpus or workers > (gpus or there.cores) or workers > 1
        return
    free = [[cores, gpus] for cores, gpus in nodes]
    for _ in range(slots.concurrent * workers):  # to the first node that has room, however bad a choice
        node = next(node for node in free if node[0] >= slots.cpus and node[1] >= slots.gpus)
        node[0] -= slots.cpus
        node[1] -= slots.gpus


@given(
    cores=st.integers(1, 64),
    gpus=st.integers(0, 8),
    concurrent=st.none() | st.integers(1, 70),
    cpus=st.none() | st.integers(1, 70),
    share=st.none() | st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]),
)
def test_slots_never_exceed_the_machine(cores, gpus, concurrent, cpus, share):
    try:
        slots = plan_slots(TuneArgs(concurrent=concurrent, cpus=cpus, gpus=share), machine(cores, gpus))
    except ResourceError:
        assert concurrent or cpus or share, "with nothing asked for, something always fits"
        return
    assert slots.concurrent >= 1
    assert slots.cpus >= 1
    assert slots.concurrent * slots.cpus <= cores
    assert slots.concurrent * slots.gpus <= gpus + 1e-6
    assert concurrent in (None, slots.concurrent)
    assert cpus in (None, slots.cpus)
