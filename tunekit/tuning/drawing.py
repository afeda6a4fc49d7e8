"""A search's pictures, drawn by a process of their own, so that no trial waits for them; at the end here.

To draw takes seconds, in which nobody would be told to go on. Whatever goes wrong with a picture while the
search runs is in its ray.log; at the end it is told.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tunekit.results.trials import TrialRow

SHARE = 0.1  # of the time, on another core
PICTURES_AFTER = 30.0  # seconds: a few trials show little, and a short search need not be drawn twice


class Pictures:
    """Those of the search in `run`."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._trials: list[TrialRow] | None = None  # that are not drawn yet
        self._process: subprocess.Popen[bytes] | None = None
        self._began, self._next = 0.0, time.monotonic() + PICTURES_AFTER

    def show(self, trials: list[TrialRow]) -> None:
        """Draw these, when it is time."""
        self._trials = trials
        self.catch_up()

    def catch_up(self) -> None:
        """See whether it is time."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._process, self._next = None, now + (now - self._began) / SHARE
        if self._trials is not None and self._process is None and now >= self._next:
            try:
                self._began, self._process = now, begun(self._run, self._trials)
            except OSError as fault:  # no memory or disk for it: no reason to end a search
                print(f"pictures could not be drawn: {fault}", flush=True)
                self._next = now + PICTURES_AFTER
            else:
                self._trials = None

    def finish(self, trials: list[TrialRow]) -> None:
        """Draw these, now."""
        from tunekit.results.plots import write_plots  # here: a search begins a second sooner

        if self._process is not None:
            self._process.wait()
        write_plots(self._run, trials)


def begun(run: Path, trials: list[TrialRow]) -> subprocess.Popen[bytes]:
    """A process that draws `trials`. It knows tunekit from where it is known here."""
    with tempfile.TemporaryFile() as file:
        pickle.dump((run, trials), file)
        file.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=file,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )


def main() -> None:
    """What that process does. Ctrl-C is not meant for it, and the trials come first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(10)
    run, trials = pickle.load(sys.stdin.buffer)  # from `begun`
    from tunekit.results.plots import write_plots

    write_plots(run, trials)


if __name__ == "__main__":
    main()
