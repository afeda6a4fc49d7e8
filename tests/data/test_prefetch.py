import threading
import time

import cv2
import pytest

from tunekit.data.prefetch import AHEAD, Assembly, in_order


class Square(Assembly[list[int]]):
    """Squares of numbers, in threads of different speeds."""

    begun: int = 0

    def __init__(self, numbers, pause=0.0, broken=None):
        self.numbers, self.squares, self.pause, self.broken = numbers, [None] * len(numbers), pause, broken
        type(self).begun += 1

    def __len__(self):
        return len(self.numbers)

    def fill(self, part):
        time.sleep(self.pause * (part % 3))
        if self.numbers[part] == self.broken:
            raise OSError(f"number {self.broken}")
        self.squares[part] = self.numbers[part] ** 2

    def done(self):
        return self.squares


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tunekit-loader")]


@pytest.mark.parametrize("workers", [0, 1, 3, 8])
def test_everything_comes_finished_and_in_order(workers):
    numbers = [range(5 * i, 5 * i + 5) for i in range(12)]
    made = list(in_order((Square(part, pause=0.001) for part in numbers), workers))
    assert made == [[n**2 for n in part] for part in numbers]
    assert not ours()


def test_no_more_is_begun_than_a_few_ahead():
    Square.begun = 0
    running = in_order((Square(range(2)) for _ in range(50)), 2)
    assert Square.begun == 0
    next(running)
    assert Square.begun == 1 + AHEAD
    next(running)
    assert Square.begun == 2 + AHEAD
    running.close()
    assert Square.begun == 2 + AHEAD


def test_the_threads_work_while_the_consumer_does():
    running = in_order((Square(range(4), pause=0.001) for _ in range(3)), 2)
    next(running)
    time.sleep(0.1)  # the consumer's own work
    begin = time.perf_counter()
    assert len(list(running)) == 2
    assert time.perf_counter() - begin < 0.05


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_comes_in_its_turn_and_leaves_no_thread(workers):
    numbers = [range(4 * i, 4 * i + 4) for i in range(12)]
    running = in_order((Square(part, broken=10) for part in numbers), workers)
    assert next(running) == [0, 1, 4, 9]
    assert next(running) == [16, 25, 36, 49]
    with pytest.raises(OSError, match="number 10"):
        next(running)
    assert not ours()


def test_closing_early_ends_what_is_under_way_and_leaves_no_thread():
    slow = [Square(range(40), pause=0.02) for _ in range(4)]
    running = in_order((Square(range(1)), *slow), 2)
    next(running)
    assert ours()
    begin = time.perf_counter()
    running.close()
    assert time.perf_counter() - begin < 0.3  # two seconds of work were waiting
    assert not ours()
    assert None in slow[0].squares


def test_a_consumer_that_breaks_off_leaves_no_thread():
    for _ in in_order((Square(range(4)) for _ in range(20)), 2):
        break
    assert not ours()


def test_opencv_starts_no_threads_of_its_own():
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        list(in_order([Square(range(1))], 1))
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
