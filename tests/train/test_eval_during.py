"""Checkpoints are evaluated as they come, in order, and never once their run has ended."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from forkdiv.models.checkpoint import Checkpoint
from forkdiv.train.eval_during import evaluating


def coming(root: Path, epochs: int) -> dict[float, Checkpoint]:
    return {epoch: Checkpoint(root / str(epoch), f"f{epoch}") for epoch in range(1, epochs + 1)}


def test_each_checkpoint_is_evaluated_once_and_in_order(tmp_path: Path) -> None:
    seen: list[float] = []
    both = threading.Event()

    def evaluate(epoch: float, checkpoint: Checkpoint) -> None:
        assert checkpoint.path.exists()
        seen.append(epoch)
        if len(seen) == 2:
            both.set()

    with evaluating(coming(tmp_path, 3), evaluate):
        (tmp_path / "2").mkdir()
        (tmp_path / "1").mkdir()
        assert both.wait(20)
    assert seen == [1, 2]


def test_the_end_waits_for_the_running_evaluation_and_starts_no_other(tmp_path: Path) -> None:
    seen: list[float] = []
    begun, free = threading.Event(), threading.Event()

    def evaluate(epoch: float, checkpoint: Checkpoint) -> None:
        begun.set()
        assert free.wait(20)
        seen.append(epoch)

    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    threads = threading.active_count()
    with evaluating(coming(tmp_path, 2), evaluate):
        assert begun.wait(20)
        threading.Timer(0.2, free.set).start()
    assert seen == [1]
    assert threading.active_count() <= threads + 1  # the timer


def test_an_exception_of_an_evaluation_is_raised_after_training(tmp_path: Path) -> None:
    begun = threading.Event()

    def evaluate(epoch: float, checkpoint: Checkpoint) -> None:
        begun.set()
        raise ValueError("no such problem")

    (tmp_path / "1").mkdir()
    trained = False
    with (  # that the block ran on is the claim
        pytest.raises(ValueError, match="no such problem"),
        evaluating(coming(tmp_path, 1), evaluate),
    ):
        trained = begun.wait(20)
    assert trained


def test_an_exception_of_training_is_raised_unchanged(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with (
        pytest.raises(RuntimeError, match="training"),
        evaluating(coming(tmp_path, 1), lambda epoch, checkpoint: None),
    ):
        raise RuntimeError("training")
