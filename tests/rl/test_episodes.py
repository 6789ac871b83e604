"""Episodes survive a file bit for bit, and say what an iteration has to learn from."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from forkdiv.rl import episodes
from forkdiv.rl.episodes import Episode, Iteration


def episode(reward: float | None, seed: int = 0) -> Episode:
    return Episode(
        problem_id="p",
        subset="signed",
        prompt="a b",
        prompt_ids=[3, 4],
        seed=seed,
        text="ä",
        token_ids=[5, 6, 1],
        logprobs=[-0.1, -1 / 3, -1e-7],
        finish="stop",
        outcome="correct",
        detail="",
        reward=reward,
    )


def iteration(number: int, *rewards: float | None) -> Iteration:
    made = [episode(reward, seed) for seed, reward in enumerate(rewards)]
    return Iteration(number, "weights", 2, made)


def test_an_iteration_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert episodes.read(tmp_path, 3) is None
    written = iteration(3, 1.0, 0.0, None, None)
    episodes.write(tmp_path, written)
    assert episodes.read(tmp_path, 3) == written


def test_groups_without_a_difference_have_no_signal_and_those_left_out_do_not_count() -> None:
    one = iteration(1, 1.0, 0.0, 1.0, 1.0, None, None, 0.0, 0.0)
    assert one.without_signal == pytest.approx(2 / 3)
    assert one.left_out == 1
    assert one.rewards == [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert one.tokens == 24


def test_all_iterations_become_one_file_and_a_missing_one_is_named(tmp_path: Path) -> None:
    for number in (1, 2):
        episodes.write(tmp_path, iteration(number, 1.0, 0.0, None, None))
    out = tmp_path / "all.parquet"
    episodes.gather(tmp_path, 2, out)
    rows = pq.read_table(out).to_pylist()
    assert [row["iteration"] for row in rows] == [1] * 4 + [2] * 4
    assert [row["group"] for row in rows[:4]] == [0, 0, 1, 1]
    assert [row["reward"] for row in rows[:4]] == [1.0, 0.0, None, None]
    assert rows[0]["logprobs"] == [-0.1, -1 / 3, -1e-7]
    with pytest.raises(FileNotFoundError, match="no episodes of iteration 3"):
        episodes.gather(tmp_path, 3, out)
