"""What all tests share: property tests draw the same examples on every machine, however busy it is, and the
files that take minutes begin first, so that none of them runs alone at the end. And a Ray to share, and a
disk that is too small."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator

import pytest
import ray
from hypothesis import settings

settings.register_profile("tunekit", deadline=None, derandomize=True)
settings.load_profile("tunekit")

LONG = (
    "test_readme.py",
    "tuning/test_run.py",
    "tuning/test_workers.py",
    "tuning/test_storage_search.py",
    "training/test_distributed.py",
    "tuning/test_cluster.py",
    "tuning/test_submit.py",
    "tuning/test_remote.py",
)


def pytest_configure() -> None:
    # A shell lets what it starts in the background ignore Ctrl-C, and so would the commands that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        found = (place for place, file in enumerate(LONG) if item.path.as_posix().endswith(file))
        return next(found, len(LONG))

    items.sort(key=place)


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    """One Ray for all that a module's tests run in this process, as a notebook would have it."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized(), "tunekit shut down a Ray that it did not start"
    ray.shutdown()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files cannot grow beyond 100 kB: the write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
