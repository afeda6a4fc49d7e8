"""Whether the cluster's head still answers: a minute after it has gone, Ray ends this process without a word.

In: its address. Out: two calls while it is silent, from a thread: Ray's own calls wait for the head, so that
the search's loop may stand still. Knows nothing of searches.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunekit.cluster import knock

LOOK_SECONDS = 2.0
LIMIT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # by which Ray's own patience can be changed
RAYS_PATIENCE = 60.0
LAST_SECONDS = 10.0  # of Ray's patience: then nothing is to be waited for any more


@contextmanager
def feeling(address: str, silent: Callable[[], None], lost: Callable[[], None]) -> Iterator[None]:
    """While the block runs: call `silent` when the head has not answered for half of Ray's patience, and
    `lost` shortly before that is over. A head that never answered here is not listened to."""
    patience = float(os.environ.get(LIMIT, RAYS_PATIENCE))
    done = threading.Event()

    def feel() -> None:
        calls = [(patience / 2, silent), (patience - LAST_SECONDS, lost)]
        last: float | None = None
        while calls and not done.wait(LOOK_SECONDS):
            if _answers(address):
                last = time.monotonic()
            elif last is not None and time.monotonic() - last > calls[0][0]:
                calls.pop(0)[1]()

    thread = threading.Thread(target=feel, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _answers(address: str) -> bool:
    try:
        knock(address)
    except (OSError, ValueError):
        return False
    return True
