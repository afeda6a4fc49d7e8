"""Two processes that form a group over gloo, for tests of what workers do together without Ray.

`pair(function, *args)` runs `function(ranks, *args)` in both, at the same time, and returns both results.
They stay up from call to call, because to start them takes seconds.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tunekit.training.ranks import Ranks

WORLD = 2
Pair = Callable[..., list[Any]]


@contextmanager
def pair_of_processes() -> Iterator[Pair]:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with tempfile.TemporaryDirectory() as folder:
        lines, processes = [], []
        for rank in range(WORLD):
            line, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, Path(folder) / "store", theirs), daemon=True)
            process.start()
            theirs.close()
            lines.append(line)
            processes.append(process)

        def run(function: Callable[..., Any], *args: Any) -> list[Any]:
            for line in lines:
                line.send((function, args))
            results = [_answer(line, rank) for rank, line in enumerate(lines)]
            return results

        try:
            yield run
        finally:
            for process in processes:
                process.kill()
                process.join()


def _answer(line: Connection, rank: int) -> Any:
    assert line.poll(120), f"rank {rank} does not answer"
    fault, result = line.recv()
    assert fault is None, f"rank {rank}: {fault}"
    return result


def _serve(rank: int, store: Path, line: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    ranks = Ranks(rank, WORLD)
    while True:
        try:
            function, args = line.recv()
        except EOFError:
            return
        try:
            line.send((None, function(ranks, *args)))
        except Exception:  # noqa: BLE001 - the test's to see
            line.send((traceback.format_exc(), None))
