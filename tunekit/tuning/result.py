"""What an epoch of a trial came to, as it travels from the process that trained it to the search.

number, epoch, fitness, epochs (in all), and, where it applies, done and finished (nothing is left to train),
costs (of the finished model, by objective), failed (the reason), halted (the disk: no trial can go on), note
(what the user should know). What goes wrong is a result, too: raising it to Ray would make Ray run the trial
again, and a deterministic fault fails again.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError

from tunekit.errors import RunFolderError, TunekitError

Result = dict[str, Any]
# So often in a row, with no epoch between, a trial's processes may be gone: they are started again. A healthy
# trial's die by chance, perhaps again while they start; a trial that kills its process does so every time.
DEATHS_OF_A_TRIAL = 5


def told(fault: Exception) -> Result:
    """What ended a trial, as its result."""
    if isinstance(fault, RunFolderError):
        return {"halted": str(fault)}
    return {"failed": str(fault) if isinstance(fault, TunekitError) else _one_line(fault)}


def lost_its_node(fault: Exception | None) -> bool:
    """Whether a process died because its node did, or was taken away: no trial's doing."""
    taken = isinstance(fault, RayActorError) and fault.preempted
    return taken or "node has died" in str(fault)  # in the words of Ray's GCS


def _one_line(fault: Exception) -> str:
    """`RuntimeError: what it says (file.py:12 in forward)`."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:500]}{where}"
