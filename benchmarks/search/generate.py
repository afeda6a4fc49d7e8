"""Train the learning curves that searchers are compared on; whatever ends this program, call it again.

What is trained next is of the source that lags most behind its share, so that the table is balanced at any
time. It is written every few trainings: a kill loses the last of them.

    python benchmarks/search/generate.py digits --minutes 60
"""

from __future__ import annotations

import argparse
import datetime
import functools
import multiprocessing
import os
import subprocess
import sys
import time
import zlib
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import common
import optuna
from sources import Job, Source, sources
from table import CPU, CURVES, Table
from tasks import HERE, TASKS, plan_of

from tunekit.errors import TunekitError
from tunekit.training.engine import Engine

KEEP_EVERY = 10  # trainings


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--scale", type=float, default=1.0, help="1,500 trainings times this (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin none after so long (%(default)s)")
    parser.add_argument("--processes", type=int, default=common.cores(), help="(%(default)s)")
    return parser.parse_args()


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = arguments()
    table = Table(HERE / "data" / f"{options.task}.parquet", plan_of(options.task).space)
    queue, end = sources(options.scale), time.monotonic() + 60 * options.minutes
    running: dict[Future[dict[str, Any]], Job] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, initializer=os.nice, initargs=(19,)) as pool:
        while True:
            while len(running) < options.processes and time.monotonic() < end:
                job = next_job(queue, table, [*running.values()])
                if job is None:
                    break
                running[pool.submit(train, options.task, job.params, seed_of(job))] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                table.rows.append({**told(job), **future.result()})
                if len(table.rows) % KEEP_EVERY == 0:
                    table.write()
                    print(f"{len(table.rows)} trainings", flush=True)
    table.write()


def next_job(queue: list[Source], table: Table, running: list[Job]) -> Job | None:
    """Of the source that lags most; None when all are done, or those that are not have to wait."""
    numbers = [row["setting"] for row in table.rows] + [job.setting for job in running]
    setting = max(numbers, default=-1) + 1

    def share(source: Source) -> float:
        begun = len(table.of(source.name)) + sum(job.source == source.name for job in running)
        return begun / source.target

    for source in sorted(queue, key=share):
        if share(source) < 1 and (job := source.next(table, running, setting)) is not None:
            return job
    return None


def seed_of(job: Job) -> int:
    """Two settings have no noise in common."""
    return zlib.crc32(f"{job.setting} {job.seed}".encode())


def told(job: Job) -> dict[str, Any]:
    today = datetime.date.today().isoformat()
    named = {"setting": job.setting, "source": job.source, "seed": job.seed, "date": today}
    return {**named, "machine": common.machine().partition(", load")[0], "version": commit(), **job.params}


@functools.cache
def commit() -> str:
    words = ("git", "rev-parse", "--short", "HEAD")
    return subprocess.run(words, cwd=HERE, capture_output=True, text=True).stdout.strip()


def train(task: str, params: dict[str, Any], seed: int) -> dict[str, Any]:
    """One training; runs in a process of the pool, which trains many."""
    args = plan_of(task).trial_args(params).model_copy(update={"seed": seed})
    curves: dict[str, list[float]] = {name: [] for name in (*CURVES, CPU)}
    failed = None
    with closing(Engine(args)) as engine:
        try:
            before = time.process_time()
            for result in engine.epochs():
                row = result.row()
                curves[CPU].append(time.process_time() - before)
                before = time.process_time()
                for name, column in CURVES.items():
                    curves[name].append(float(row[column] or 0.0))
        except TunekitError as fault:
            failed = str(fault)
    return {"failed": failed, **curves}


if __name__ == "__main__":
    main()
