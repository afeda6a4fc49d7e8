"""What is undominated, against a plain reading of its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunekit.search.pareto import dominates, undominated

VECTORS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[st.integers(0, 3)] * width), min_size=1, max_size=12)
)


@given(VECTORS)
def test_a_row_is_undominated_when_no_other_is_as_good_in_all_and_better_in_one(
    rows: list[tuple[int, ...]],
) -> None:
    expected = []
    for row in rows:
        beaten = False
        for other in rows:
            pairs = list(zip(other, row, strict=True))
            beaten |= all(theirs >= ours for theirs, ours in pairs) and other != row
        expected.append(not beaten)
    assert undominated(np.array(rows, dtype=float)).tolist() == expected


def test_equal_rows_do_not_dominate_each_other() -> None:
    row = np.array([1.0, 2.0])
    assert not dominates(row, row)
    assert dominates(row, row - [0.0, 1.0])
    assert not dominates(row - [1.0, 0.0], row)
    assert undominated(np.stack([row, row])).all()
