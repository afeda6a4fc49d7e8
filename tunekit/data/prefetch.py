"""Work done ahead by threads, handed out in order.

In: assemblies (things made of parts that can be filled independently). Out: what they make, one after
another, while threads fill the parts of the next few. Knows nothing of images.

Threads, not processes: OpenCV and NumPy release the interpreter's lock while they work on pixels, and
nothing has to be copied or pickled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Generic, TypeVar

import cv2

T = TypeVar("T")
AHEAD = 3  # assemblies under way or waiting, if one is taken at a time; bounds the memory


class Assembly(ABC, Generic[T]):
    """Something of len() parts, each filled by one call from any thread."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fill(self, part: int) -> None: ...

    @abstractmethod
    def done(self) -> T:
        """The finished thing; called once, after every part is filled."""


def in_order(assemblies: Iterable[Assembly[T]], workers: int, together: int = 1) -> Generator[T, None, None]:
    """Yields what the assemblies make, in their order. 0 workers: all in the calling thread.

    `together`: how many are taken at a time; as many more are made ahead.
    A failure in a thread is raised here, in its turn. However the generator ends (to the end, by a
    failure, closed early), no thread is left and nothing that was waiting is begun.
    """
    if not workers:
        _one_thread_each()
        for assembly in assemblies:
            for part in range(len(assembly)):
                assembly.fill(part)
            yield assembly.done()
        return

    assemblies, stop = iter(assemblies), Event()
    under_way: deque[tuple[Assembly[T], list[Future[None]]]] = deque()
    pool = ThreadPoolExecutor(workers, "tunekit-loader", initializer=_one_thread_each)

    def top_up() -> None:
        while len(under_way) < AHEAD + together - 1 and (assembly := next(assemblies, None)) is not None:
            # Every worker takes each `workers`-th part: one task a worker costs less than one a part.
            shares = [range(first, len(assembly), workers) for first in range(min(workers, len(assembly)))]
            under_way.append((assembly, [pool.submit(_fill, assembly, share, stop) for share in shares]))

    try:
        top_up()
        while under_way:
            assembly, tasks = under_way.popleft()
            for task in tasks:
                task.result()
            top_up()  # before the consumer gets to work, so that the threads have some as well
            yield assembly.done()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _fill(assembly: Assembly[T], parts: range, stop: Event) -> None:
    for part in parts:
        if stop.is_set():
            return
        assembly.fill(part)


def _one_thread_each() -> None:
    """OpenCV's own threads off, for this process: our threads are the parallelism, and the pool that
    OpenCV would put under each call fights them, and the training, for the same cores."""
    cv2.setNumThreads(0)
