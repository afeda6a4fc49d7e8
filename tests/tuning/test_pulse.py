"""A head that falls silent, as a socket that nobody listens to any more."""

from __future__ import annotations

import socket
import time

import pytest

from tests.tuning.nodes import free_port
from tunekit.tuning import pulse


@pytest.fixture
def called(monkeypatch):
    """What was called, in its order; Ray's patience is a second."""
    monkeypatch.setenv(pulse.LIMIT, "1.0")
    monkeypatch.setattr(pulse, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pulse, "LAST_SECONDS", 0.2)
    return []


def felt(called, port):
    return pulse.feeling(f"127.0.0.1:{port}", lambda: called.append("silent"), lambda: called.append("lost"))


def test_a_head_that_is_gone_is_told_twice(called):
    head = socket.create_server(("127.0.0.1", 0))
    with felt(called, head.getsockname()[1]):
        time.sleep(1.2)
        assert called == [], "it is there"
        head.close()
        deadline = time.monotonic() + 20
        while len(called) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
    assert called == ["silent", "lost"]


def test_a_head_that_is_away_for_a_moment_each_time_is_there(called, monkeypatch):
    monkeypatch.setenv(pulse.LIMIT, "5.0")  # the moments add up to more than half of it
    port = free_port()
    with felt(called, port):
        for _ in range(7):
            with socket.create_server(("127.0.0.1", port)):
                time.sleep(0.4)
            time.sleep(0.4)
    assert called == []


def test_an_address_that_never_answered_here_says_nothing(called):
    with felt(called, free_port()):
        time.sleep(1.5)
    assert called == []
