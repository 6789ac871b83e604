"""`forkdiv rl` as its user runs it, killed with kill -9: the same rewards, the same weights."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from forkdiv.models.saved import saved_checkpoints
from forkdiv.rl.episodes import PARQUET
from forkdiv.rl.meter import read_log
from tests.stack import kill_when, run, said

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

SETTINGS = (
    "rl.iterations=24",
    "rl.save_every=12",
    "rl.save_state_every=5",
    "rl.learning_rate=3e-4",
)


def result(root: Path) -> Path:
    (folder,) = (root / "store/rl").iterdir()
    return folder


def test_a_run_that_is_killed_twice_has_the_rewards_and_weights_of_one_that_is_not(
    tmp_path: Path,
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("rl", whole, *SETTINGS)
    for iteration in (8, 17):

        def ready(events: list[dict[str, object]], iteration: int = iteration) -> bool:
            log = next(killed.glob("store/work/rl/*/log.jsonl"), None)
            return log is not None and read_log(log.parent)[-1]["iteration"] >= iteration

        kill_when("rl", killed, SETTINGS, ready)
    done = run("rl", killed, *SETTINGS)
    assert said([{"message": line} for line in done.stdout.splitlines()], "resuming after") == 1
    first, second = result(whole), result(killed)
    assert first.name == second.name
    for column in ("reward", "text", "seed", "problem_id"):
        tables = [pq.read_table(each / PARQUET, columns=[column]) for each in (first, second)]
        assert tables[0].equals(tables[1]), column
    rewards = [[row["reward"] for row in read_log(each)] for each in (first, second)]
    assert rewards[0] == rewards[1]
    saved = [saved_checkpoints(each)[1] for each in (first, second)]
    assert list(saved[0]) == list(saved[1]) == [12, 24]
    for number in saved[0]:
        a, b = (load_file(each[number] / "model.safetensors") for each in saved)
        assert all(torch.equal(a[name], b[name]) for name in a)
    # nothing is left to do
    again = run("rl", whole, *SETTINGS)
    assert "iteration 1/24" not in again.stdout
