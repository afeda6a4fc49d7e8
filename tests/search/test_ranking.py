import math
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from tunekit.search.ranking import Ranking

values = st.sampled_from([-math.inf, -1.0, 0.0, 0.1, 0.3, 0.30000000000000004])


@given(st.lists(st.tuples(st.integers(0, 8), values), min_size=1, max_size=30))
def test_places_and_medians_are_those_of_the_values_that_came_last(puts: list[tuple[int, float]]) -> None:
    ranking, plain = Ranking(puts), dict(puts)
    assert ranking.of == plain
    assert len(ranking) == len(plain)
    for number, value in plain.items():
        assert ranking.better(number) == sum(other > value for other in plain.values())
        others = [other for one, other in plain.items() if one != number]
        if others:
            assert ranking.median_beside(number) == median(others)
