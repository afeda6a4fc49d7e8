"""The Ray that processes run on: which GPUs it shows them, and that it leaves the environment as it was."""

from __future__ import annotations

import os

import pytest
import ray

from tunekit.cluster import gpu_names, running_ray
from tunekit.errors import ResourceError


@pytest.mark.parametrize(
    ("seen", "names"),
    [(None, "1,3"), ("4,5,6,7", "5,7"), ("GPU-a,GPU-b,GPU-c,GPU-d", "GPU-b,GPU-d")],
)
def test_the_chosen_gpus_are_counted_among_those_that_are_seen(seen, names):
    assert gpu_names((1, 3), seen) == names


def test_a_ray_that_does_not_come_up_is_told_and_the_environment_is_as_before(monkeypatch):
    def broken(**settings):
        assert os.environ["TUNEKIT_TEST"] == "inside"
        raise RuntimeError("The node did not come up\nMore words.")

    monkeypatch.setattr(ray, "init", broken)
    monkeypatch.setenv("TUNEKIT_TEST", "outside")
    with (
        pytest.raises(ResourceError, match=r"Ray did not start: The node did not come up\. Its words"),
        running_ray(1, 0, {"TUNEKIT_TEST": "inside"}),
    ):
        pass
    assert os.environ["TUNEKIT_TEST"] == "outside"
