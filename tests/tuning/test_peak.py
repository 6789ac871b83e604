"""The search finds the peak of a run in few evaluations."""

from __future__ import annotations

from random import Random

import pytest

from tuning.peak import search


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 20, 100])
def test_one_peak_is_found_wherever_it_is(count: int) -> None:
    for peak in range(count):
        done = search(count, lambda at, peak=peak: -abs(at - peak))  # type: ignore[misc]
        assert done.best == peak
        neighbours = {peak - 1, peak + 1} & set(range(count))
        assert neighbours <= done.values.keys(), "the result can be compared with its neighbours"


def test_few_checkpoints_are_measured_and_none_twice() -> None:
    for count, most in ((10, 8), (20, 10), (100, 14), (1000, 20)):
        for peak in range(0, count, max(count // 50, 1)):
            asked: list[int] = []

            def measure(at: int, peak: int = peak, asked: list[int] = asked) -> float:
                asked.append(at)
                return -abs(at - peak)

            search(count, measure)
            assert len(asked) == len(set(asked)) <= most


def test_of_equal_values_the_earliest_is_the_peak() -> None:
    done = search(30, lambda at: 0.5)
    assert done.best == min(done.values)
    done = search(30, lambda at: min(at, 12))
    assert done.values[done.best] == 12


def test_with_noise_the_result_is_the_best_of_what_was_measured_and_of_its_neighbours() -> None:
    random = Random(0)
    for _ in range(50):
        noise = [random.gauss(0, 0.2) for _ in range(40)]
        done = search(40, lambda at: -abs(at - 20) / 40 + noise[at])  # noqa: B023
        assert done.values[done.best] == max(done.values.values())
        assert not done.unmeasured_neighbours(40)
