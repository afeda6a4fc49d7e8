"""What is known of the data before the first trial: whether there is a test split to measure on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tunekit.search_args import TuneArgs
from tunekit.tuning.survey import survey_data


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two pictures a split, of which those of test have no labels."""
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(tmp_path / f"images/{split}/{number}.png"), np.full((32, 32, 3), 90, np.uint8))
            if split != "test":
                (tmp_path / f"labels/{split}/{number}.txt").write_text("0 .5 .5 .5 .5\n")
    return tmp_path


def survey(root, test="", **given):
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\n{test}\nnames: [square]\n")
    return survey_data(TuneArgs(data=str(root / "data.yaml"), imgsz=32, **given))


def test_a_test_split_is_used_where_there_is_one_and_a_confirmation(root):
    assert survey(root, "test: images/val").tested
    assert not survey(root, "test: images/val", confirm=0).tested
    without = survey(root)
    assert (without.tested, without.problems) == (False, "")


@pytest.mark.parametrize("place", ["images/test", "images/nowhere"])
def test_one_that_cannot_be_used_is_left_out_and_it_is_said(root, place):
    found = survey(root, f"test: {place}")
    assert not found.tested
    assert found.problems.startswith("the test split is left out: ")
    assert survey(root, f"test: {place}", confirm=0).problems == ""
