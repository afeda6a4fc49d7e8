from dataclasses import fields

import numpy as np

from tunekit.data.gpu.chance import Chance, chance


def numbers(made: Chance) -> np.ndarray:
    return np.concatenate([getattr(made, field.name) for field in fields(made)], axis=1)


def test_a_position_has_the_same_numbers_however_the_epoch_is_cut():
    whole = numbers(chance(0, 3, 0, np.arange(50)))
    for positions in (np.arange(7), np.arange(7, 50), np.arange(11, 44, 4), np.array([49])):
        np.testing.assert_array_equal(numbers(chance(0, 3, 0, positions)), whole[positions])


def test_seeds_epochs_attempts_and_positions_have_numbers_of_their_own():
    made = [
        numbers(chance(*key, np.arange(3))) for key in ((0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1), (1, 0, 0))
    ]
    rows = np.concatenate(made)
    assert len(np.unique(rows)) == rows.size


def test_numbers_are_even_between_0_and_1_and_the_median_of_a_ratio_is_as_mixup_wants_it():
    made = chance(0, 0, 0, np.arange(3000))
    every = numbers(made)
    assert every.min() >= 0
    assert every.max() < 1
    np.testing.assert_allclose(every.mean(axis=0), 0.5, atol=0.03)
    np.testing.assert_allclose(every.std(axis=0), 12**-0.5, atol=0.02)
    ratio = np.median(made.ratio, axis=1)
    assert abs(ratio.mean() - 0.5) < 0.005
    assert abs(ratio.std() - (1 / 260) ** 0.5) < 0.003  # of Beta(32, 32): sqrt(1 / (4 * 65))
