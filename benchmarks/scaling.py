"""What the driver of a large search costs: time to ask and to tell, tables, memory, and how busy slots stay.

The driver's own parts (searcher, study on disk, scheduler, tables) are called as Ray Tune calls them, by a
simulated clock: trials are learning curves that take 2 to 60 s an epoch of it, and every second that the
driver really needs is one in which the slot that waits for its answer is idle. Ray itself is not in it.
"""

from __future__ import annotations

import argparse
import heapq
import math
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import common
import numpy as np

from tunekit.checks import build_args
from tunekit.control import Control
from tunekit.search.budget import Budget
from tunekit.search.samplers import make_sampler
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.tuning.books import Books
from tunekit.tuning.schedulers import make_scheduler
from tunekit.tuning.searcher import StudySearcher
from tunekit.tuning.study import create_study

HEADER = "epoch,time,metrics/mAP50-95(B)\n"
STEPS = (100, 500, 1000, 2000, 5000, 10000)


@dataclass
class Slot:
    """Where one trial runs."""

    name: str
    number: int
    epoch: int = 0
    seconds: float = 0.0  # an epoch
    top: float = 0.0  # what the curve comes to


@dataclass
class Costs:
    """Seconds of the driver, by what it did, since the last line of the table."""

    ask: list[float] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "scaling")
    found.add_argument("--trials", type=int, default=2000)
    found.add_argument("--slots", type=int, default=64)
    found.add_argument("--epochs", type=int, default=30)
    found.add_argument("--sampler", default="genetic")
    found.add_argument("--seed", type=int, default=0)
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        lines, busy, span = simulate(options, Path(folder))
    header = ["finished trials", "ask ms", "epoch ms", "end ms, with tables", "memory MB", "driver busy"]
    text = [
        f"{options.trials} trials of {options.epochs} epochs at most, {options.slots} at a time, "
        f"{options.sampler}, asha; medians (99th percentiles) since the line before",
        "",
        *common.table(header, lines),
        "",
        f"- slots were training {busy:.1%} of {span / 3600:.1f} simulated hours",
    ]
    common.report("Scaling: the driver of a large search", began, text, options.out)


def simulate(options: argparse.Namespace, run: Path) -> tuple[list[list[str]], float, float]:
    """The lines of the table, the share of the slots' time that they trained, the simulated seconds."""
    args = build_args(TuneArgs, {"iterations": options.trials, "epochs": options.epochs})
    space, control, budget = load_space("default"), Control(), Budget(None, None)
    (run / "space.yaml").write_text(space.to_yaml())
    study = create_study(run, make_sampler(options.sampler, space, options.seed), space.defaults(), {})
    searcher = StudySearcher(
        study,
        space,
        run,
        iterations=options.trials,
        concurrent=options.slots,
        budget=budget,
        control=control,
    )
    scheduler = make_scheduler(args, args, budget)
    scheduler.listen(searcher.curve)
    books = Books(run, study)
    chance = np.random.default_rng(options.seed)
    costs, lines = Costs(), []
    driver_free = trained = span = really = 0.0
    finished = 0
    events: list[tuple[float, int, Slot | None]] = [(0.0, place, None) for place in range(options.slots)]
    heapq.heapify(events)
    asked = 0
    while events:
        now, place, slot = heapq.heappop(events)
        start = time.perf_counter()
        if slot is None:  # the slot is free
            asked += 1
            given = searcher.suggest(f"t{asked}")
            spent = time.perf_counter() - start
            if not isinstance(given, dict):
                continue
            costs.ask.append(spent)
            unit = [one.to_unit(given["params"][one.name]) for one in space.parameters]
            slot = Slot(f"t{asked}", given["number"])
            slot.seconds = float(chance.uniform(2, 60))
            slot.top = 0.6 * math.exp(-float(np.mean(np.square(np.array(unit) - 0.4))) * 8)
            (run / "trials" / str(slot.number)).mkdir(parents=True)
        else:
            slot.epoch += 1
            trained += slot.seconds
            fitness = slot.top * (1 - math.exp(-slot.epoch / 8)) + float(chance.normal(0, 0.005))
            with (run / "trials" / str(slot.number) / "results.csv").open("a") as file:
                row = f"{slot.epoch},{slot.epoch * slot.seconds},{fitness}\n"
                file.write(row if slot.epoch > 1 else HEADER + row)
            done = slot.epoch == options.epochs
            result = {"number": slot.number, "epoch": slot.epoch, "fitness": fitness, "finished": done}
            trial = SimpleNamespace(trial_id=slot.name)
            start = time.perf_counter()
            if not done:
                searcher.on_trial_result(slot.name, result)
                done = scheduler.on_trial_result(None, trial, result) == scheduler.STOP
            if done:
                searcher.on_trial_complete(slot.name, result)
                scheduler.on_trial_complete(None, trial, result)
                books.update()
            spent = time.perf_counter() - start
            (costs.end if done else costs.epoch).append(spent)
            if done:
                finished, slot = finished + 1, None
                if finished in STEPS or finished == options.trials:
                    lines.append(line(finished, costs, really / max(driver_free, 1e-9)))
                    print(" | ".join(lines[-1]), flush=True)
                    costs = Costs()
        if control.fault is not None:
            raise control.fault
        really += spent
        driver_free = max(driver_free, now) + spent
        span = max(span, driver_free)
        heapq.heappush(events, (driver_free + (slot.seconds if slot else 0.0), place, slot))
    return lines, trained / (options.slots * span), span


def line(finished: int, costs: Costs, busy: float) -> list[str]:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        str(finished),
        *(told(values) for values in (costs.ask, costs.epoch, costs.end)),
        f"{memory:.0f}",
        f"{busy:.1%}",
    ]


def told(values: list[float]) -> str:
    if not values:
        return "-"
    middle, high = np.percentile(np.array(values) * 1000, [50, 99])
    return f"{middle:.1f} ({high:.1f})"


if __name__ == "__main__":
    main()
