"""`profile=True`: where the time of training goes, from a few steps of its first epoch.

In: an engine. Out: profile.txt, a table of all operators and of the ranges data, forward, loss, backward and
step, those first that take most of the time themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from tunekit.atomic import write_text
from tunekit.training.engine import Engine

PROFILE = "profile.txt"
SKIPPED, STEPS = 3, 10  # first steps are slow: caches are cold, kernels are chosen


@contextmanager
def profiled(engine: Engine, folder: Path) -> Iterator[None]:
    """Watch the steps that are trained inside, of which there may be fewer than STEPS."""
    activities = [ProfilerActivity.CPU]
    if engine.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    order = "self_cuda_time_total" if engine.device.type == "cuda" else "self_cpu_time_total"
    batches = len(engine.train_loader)
    skipped = min(SKIPPED, batches - 1)
    steps = min(STEPS, batches - skipped)

    def write(result: torch.profiler.profile) -> None:
        table = result.key_averages().table(sort_by=order, row_limit=-1)
        write_text(folder / PROFILE, f"{steps} training steps after the first {skipped}\n{table}\n")

    plan = schedule(wait=max(skipped - 1, 0), warmup=min(skipped, 1), active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as watch:
        engine.after_round = watch.step
        try:
            yield
        finally:
            engine.after_round = None
