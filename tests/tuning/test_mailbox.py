"""What the mailbox makes of faults and deaths, and what it is told of them: pure, no Ray runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from tunekit.args import TrainArgs
from tunekit.tuning.mailbox import Mailbox, Order
from tunekit.tuning.result import DEATHS_OF_A_TRIAL
from tunekit.tuning.workers import Witness

PATIENCE = 0.2


def order(number: int) -> Order:
    return Order(TrainArgs(), Path(f"trials/{number}"))


@pytest.fixture
def run():
    """Runs one story of a mailbox for two workers."""

    def play(story: Callable[[Mailbox], Awaitable[None]]) -> None:
        async def told() -> None:
            await asyncio.wait_for(story(Mailbox(2, PATIENCE)), 10)

        asyncio.run(told())

    return play


async def ordered(box: Mailbox, number: int) -> asyncio.Task:
    """An epoch of trial `number`, on its way."""
    task = asyncio.ensure_future(box.train(order(number)))
    await asyncio.sleep(0)
    return task


def test_orders_are_answered_one_after_another(run):
    async def story(box: Mailbox) -> None:
        waiting = asyncio.ensure_future(box.order(0))
        coming = await ordered(box, 7)
        assert (await waiting).folder.name == "7"
        assert not coming.done()
        await box.answer(0, {"epoch": 1})
        assert await coming == {"epoch": 1}
        assert await box.standing() == 1
        end = asyncio.ensure_future(box.order(1))
        await box.close()
        assert await end is None

    run(story)


def test_a_fault_that_all_workers_meet_is_the_trials_and_they_go_on(run):
    async def story(box: Mailbox) -> None:
        coming = await ordered(box, 0)
        faults = [
            box.fault(0, 1, {"failed": "second"}, known=False),
            box.fault(0, 0, {"failed": "first"}, known=False),
        ]
        assert await asyncio.gather(*faults) == [True, True]
        assert await coming == {"failed": "first"}
        assert await box.standing() == 1

    run(story)


def test_a_known_fault_of_one_worker_alone_ends_the_trial_and_the_workers(run):
    async def story(box: Mailbox) -> None:
        coming = await ordered(box, 0)
        assert await box.fault(0, 1, {"failed": "mine"}, known=True) is False
        assert await coming == {"failed": "mine"}
        # The new workers begin with the next order, and an answer that comes late changes nothing.
        await box.answer(0, {"epoch": 1})
        assert await box.standing() == 1
        coming = await ordered(box, 1)
        await box.answer(1, {"epoch": 1})
        assert await coming == {"epoch": 1}

    run(story)


@pytest.mark.parametrize("late", [False, True])
def test_the_echo_of_a_death_is_not_the_trials_fault(run, late):
    async def story(box: Mailbox) -> None:
        coming = await ordered(box, 0)
        echo = asyncio.ensure_future(box.fault(0, 0, {"failed": "connection closed"}, known=False))
        await asyncio.sleep(PATIENCE * (1.5 if late else 0.25))
        await box.death("worker 2 of 2 died")
        assert await echo is False
        assert not coming.done()
        assert await box.standing() == 0, "the order stands"
        await box.answer(0, {"epoch": 3, "note": "said"})
        result = await coming
        assert result["epoch"] == 3
        assert result["note"].startswith("worker 2 of 2 died: ")
        assert result["note"].endswith("; said")
        coming = await ordered(box, 0)
        await box.answer(1, {"epoch": 4})
        assert await coming == {"epoch": 4}, "a death is told once"

    run(story)


def test_a_trial_whose_workers_die_again_and_again_is_given_up(run):
    async def story(box: Mailbox) -> None:
        coming = await ordered(box, 0)
        for _ in range(DEATHS_OF_A_TRIAL):
            await box.death("worker 1 of 2 died")
            assert not coming.done()
        await box.death("worker 1 of 2 died")
        assert (await coming)["failed"] == f"worker 1 of 2 died, as {DEATHS_OF_A_TRIAL} times in a row before"
        assert "note" not in await coming
        await box.death("worker 1 of 2 died")  # nothing was ordered: nobody's
        coming = await ordered(box, 1)
        await box.death("worker 2 of 2 died")
        assert not coming.done(), "another trial has deaths of its own"
        coming.cancel()

    run(story)


def test_a_node_that_is_taken_away_as_announced_counts_against_no_trial(run):
    async def story(box: Mailbox) -> None:
        coming = await ordered(box, 0)
        for _ in range(DEATHS_OF_A_TRIAL + 2):
            await box.death("worker 2 of 2 lost its node", counts=False)
        assert not coming.done()
        await box.answer(0, {"epoch": 1})
        assert (await coming)["note"].startswith("worker 2 of 2 lost its node: all started again")

    run(story)


def test_a_node_that_was_announced_to_go_is_told_from_one_that_died(monkeypatch):
    told = []
    monkeypatch.setattr("ray.get", lambda sent: sent)
    box = SimpleNamespace(death=SimpleNamespace(remote=lambda *words: told.append(words)))
    gone = RayActorError(error_msg="The actor died because its node has died. Node Id: 1")
    for cause in (RayActorError(preempted=True), gone, RayActorError()):
        Witness(box, 2).after_exception(None, {1: WorkerHealthCheckFailedError("", cause)})
    assert told == [
        ("worker 2 of 2 lost its node, which was taken away as announced", False),
        ("worker 2 of 2 lost its node", False),
        ("worker 2 of 2 died (killed, or out of memory?)", True),
    ]


def test_deaths_with_an_epoch_between_do_not_add_up(run):
    async def story(box: Mailbox) -> None:
        for epoch in range(DEATHS_OF_A_TRIAL + 1):
            coming = await ordered(box, 0)
            await box.death("worker 1 of 2 died")
            await box.answer(epoch, {"epoch": epoch + 1})
            assert (await coming)["epoch"] == epoch + 1

    run(story)
