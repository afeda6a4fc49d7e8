"""What the driver of a large search costs: time to ask and to tell, tables, memory, and how busy slots stay.

The driver's own parts (searcher, study on disk, scheduler, tables) are called as Ray Tune calls them, by a
simulated clock: trials are learning curves that take 2 to 60 s an epoch of it, and every second that the
driver really needs is one in which the slot that waits for its answer is idle. Ray itself is not in it.
"""

from __future__ import annotations

import argparse
import heapq
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import common
import numpy as np
from simulated import FITNESS, Curve, curve_of, write_row

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

STEPS = (100, 500, 1000, 2000, 5000, 10000)


@dataclass
class Slot:
    """Where one trial runs."""

    name: str
    curve: Curve
    epoch: int = 0

    def folder(self, run: Path) -> Path:
        return run / "trials" / str(self.curve.number)


@dataclass
class Costs:
    """Seconds of the driver, by what it did, since the last line of the table."""

    ask: list[float] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)


@dataclass
class Use:
    """Simulated seconds of the whole search, and those that all slots together trained."""

    slots: int
    span: float = 0.0
    trained: float = 0.0
    span_before: float = 0.0  # until the last trial was handed out
    trained_before: float = 0.0

    def handed_out(self, now: float, running: float) -> None:
        """A trial begins; those that run have trained for `running` seconds since their last epochs' ends."""
        self.span_before, self.trained_before = now, self.trained + running

    def told(self) -> str:
        tail = self.span - self.span_before
        whole = self.trained / (self.slots * self.span)
        before = self.trained_before / max(self.slots * self.span_before, 1e-9)
        after = (self.trained - self.trained_before) / (self.slots * tail)
        return (
            f"- slots were training {whole:.1%} of {self.span / 3600:.2f} simulated hours: {before:.2%} "
            f"until the last trial was handed out, {after:.1%} of the {tail / 60:.0f} minutes after that"
        )


def arguments() -> argparse.Namespace:
    found = common.parser(__doc__, "scaling")
    found.add_argument("--trials", type=int, default=2000)
    found.add_argument("--slots", type=int, default=64)
    found.add_argument("--epochs", type=int, default=30)
    found.add_argument("--sampler", default="genetic")
    found.add_argument("--scheduler", default="forecast")
    found.add_argument("--seed", type=int, default=0)
    return found.parse_args()


def main() -> None:
    options, began = arguments(), common.machine()
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        lines, use = simulate(options, Path(folder))
    header = ["finished trials", "ask ms", "epoch ms", "end ms, with tables", "memory MB", "driver busy"]
    text = [
        f"{options.trials} trials of {options.epochs} epochs at most, {options.slots} at a time, "
        f"{options.sampler}, {options.scheduler}; medians (99th percentiles) since the line before",
        "",
        *common.table(header, lines),
        "",
        use.told(),
    ]
    common.report("Scaling: the driver of a large search", began, text, options.out)


def simulate(options: argparse.Namespace, run: Path) -> tuple[list[list[str]], Use]:
    """The lines of the table, and what became of the slots' time."""
    chosen = {"sampler": options.sampler, "scheduler": options.scheduler}
    args = build_args(TuneArgs, {"iterations": options.trials, "epochs": options.epochs, **chosen})
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
    scheduler = make_scheduler(args, args, space, budget)
    scheduler.listen(searcher.curve)
    books = Books(run, study)
    costs, lines, use = Costs(), [], Use(options.slots)
    driver_free = really = 0.0
    finished = asked = 0
    events: list[tuple[float, int, Slot | None]] = [(0.0, place, None) for place in range(options.slots)]
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
            slot = Slot(f"t{asked}", curve_of(space, given["number"], given["params"]))
            slot.folder(run).mkdir(parents=True)
            begun = [at - slot.curve.seconds for at, _, slot in events if slot is not None]
            use.handed_out(now, sum(max(0.0, now - one) for one in begun))
        else:
            slot.epoch += 1
            use.trained += slot.curve.seconds
            fitness = slot.curve.fitness(slot.epoch)
            row = {"epoch": slot.epoch, "time": slot.epoch * slot.curve.seconds, FITNESS: fitness}
            write_row(slot.folder(run), row)
            done = slot.epoch == options.epochs
            result = {
                "number": slot.curve.number,
                "epoch": slot.epoch,
                "fitness": fitness,
                "finished": done,
            }
            trial = SimpleNamespace(trial_id=slot.name)
            start = time.perf_counter()
            if not done:
                done = scheduler.on_trial_result(None, trial, result) == scheduler.STOP
            if not done:
                searcher.on_trial_result(slot.name, result)
            else:
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
        use.span = max(use.span, driver_free)
        heapq.heappush(events, (driver_free + (slot.curve.seconds if slot else 0.0), place, slot))
    return lines, use


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
