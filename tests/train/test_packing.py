"""How a step is dealt: every example once, to every worker as many passes, little padding."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.train.packing import forward_passes, pack

LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=40)
MAYBE = st.none() | st.integers(1, 70)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 5), MAYBE, MAYBE)
def test_every_example_is_read_once_and_all_workers_run_every_pass(
    lengths: list[int], world: int, micro: int | None, pack: int | None
) -> None:
    passes = forward_passes(lengths, world, micro, pack)
    assert passes and all(len(parts) == world for parts in passes)
    dealt = [i for parts in passes for part in parts for line in part for i in line]
    assert sorted(dealt) == list(range(len(lengths)))
    if micro:
        assert max(len(part) for parts in passes for part in parts) <= micro
    else:
        assert len(passes) == 1
    counts = [sum(len(parts[rank]) for parts in passes) for rank in range(world)]
    assert max(counts) - min(counts) <= 1


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 70))
def test_a_packed_row_holds_at_most_pack_tokens(lengths: list[int], pack_tokens: int) -> None:
    rows = pack(lengths, pack_tokens)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[i] for i in row) <= pack_tokens for row in rows)
    fits = [length for length in lengths if length <= pack_tokens]
    least = -(-sum(fits) // pack_tokens)
    assert sum(sum(lengths[i] for i in row) <= pack_tokens for row in rows) <= max(2 * least, 0)


def test_without_packing_or_passes_examples_keep_their_order() -> None:
    assert forward_passes([5, 9, 2, 7, 7], 2) == [[[(0,), (2,), (4,)], [(1,), (3,)]]]


def test_the_rows_of_a_pass_have_similar_lengths() -> None:
    lengths = [3, 40, 5, 38, 4, 41, 39, 6]
    passes = forward_passes(lengths, 2, micro_batch=2)
    assert [sorted(lengths[i] for part in parts for (i,) in part) for parts in passes] == [
        [38, 39, 40, 41],
        [3, 4, 5, 6],
    ]


def test_the_distribution_depends_only_on_the_lengths() -> None:
    lengths = [7, 7, 7, 3, 3, 9]
    assert forward_passes(lengths, 2, 1, 10) == forward_passes(list(lengths), 2, 1, 10)
