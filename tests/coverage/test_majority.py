"""majority@k against every choice of k samples."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.coverage.stats import majority_at_k

# R and r are right answers, w and v wrong ones, - is no readable answer
Samples = st.lists(st.sampled_from("Rrwv-"), min_size=1, max_size=9)


def by_enumeration(samples: list[str], k: int) -> float:
    wins = []
    for some in combinations(range(len(samples)), k):
        votes = Counter(samples[i] for i in some if samples[i] != "-")
        top = [one for one, count in votes.items() if count == max(votes.values())]
        wins.append(sum(one in "Rr" for one in top) / len(top) if top else 0.0)
    return float(np.mean(wins))


@settings(deadline=None, max_examples=60)
@given(Samples, st.data())
def test_majority_at_k_is_the_mean_over_every_choice_of_k(
    samples: list[str], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(samples)))
    each = Counter(samples)
    right = Counter(each[one] for one in "Rr" if each[one])
    wrong = Counter(each[one] for one in "wv" if each[one])
    (found,) = majority_at_k(len(samples), right, wrong, [k], draws=4000)
    # five standard errors of the draws, which some cases need none of
    assert found == pytest.approx(by_enumeration(samples, k), abs=5 * 0.5 / np.sqrt(4000))


def test_cases_without_random_draws_are_exact() -> None:
    assert majority_at_k(8, {3: 1}, {2: 2}, [1, 8]).tolist() == [3 / 8, 1.0]
    assert majority_at_k(8, {}, {2: 2}, [1, 4, 8]).tolist() == [0, 0, 0]
    assert majority_at_k(4, {2: 1}, {2: 1}, [4]).tolist() == [0.5]
    assert majority_at_k(4, {2: 1}, {}, [2])[0] == pytest.approx(1 - 1 / 6)


def test_a_plurality_grows_with_k_where_wrong_answers_are_split() -> None:
    values = majority_at_k(64, {24: 1}, {4: 10}, [1, 4, 16, 64])
    assert np.all(np.diff(values) > 0) and values[-1] == 1.0


def test_one_seed_gives_one_value() -> None:
    one, again = (majority_at_k(16, {6: 1}, {5: 2}, [4, 7]) for _ in range(2))
    assert one.tolist() == again.tolist()


def test_fewer_samples_than_k_are_unknown_and_too_many_votes_refused() -> None:
    assert np.isnan(majority_at_k(4, {2: 1}, {1: 2}, [5])).all()
    with pytest.raises(ValueError, match="votes must not exceed samples, got 5 votes and n=4"):
        majority_at_k(4, {5: 1}, {}, [1])
