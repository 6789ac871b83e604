"""Without place.micro_batch, a forward pass has as many rows as the estimate of memory allows."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.train import memory
from forkdiv.train.memory import Shape
from forkdiv.train.pass_size import memory_of_worker, rows_that_fit, smallest, with_pass_size
from tests.stack import BASE, ROOT

SFT = SftConfig(dtype="bfloat16", batch_size=64)
TOKENS = 1024


@pytest.fixture(scope="module")
def half_billion() -> Shape:
    path = ROOT / "jobs" / "configs" / "architectures" / "qwen2.5-0.5b.json"
    return memory.shape(memory.read_architecture(path), SFT)


def place(**settings: Any) -> PlaceConfig:
    return PlaceConfig.model_validate({"device": "gpu", "workers": 1, **settings})


def total(shape: Shape, rows: int | None, **settings: Any) -> float:
    return memory.estimate(shape, SFT, place(micro_batch=rows, **settings), TOKENS).total


@pytest.mark.parametrize("gib", [16.0, 24.0, 40.0, 64.0])
def test_the_rows_fit_and_twice_as_many_would_not(half_billion: Shape, gib: float) -> None:
    rows = rows_that_fit(half_billion, SFT, place(), TOKENS, gib)
    assert rows is not None
    assert total(half_billion, rows) <= gib < total(half_billion, 2 * rows)


def test_more_memory_or_checkpointing_allows_more_rows(half_billion: Shape) -> None:
    def rows(gib: float, **settings: Any) -> int:
        return rows_that_fit(half_billion, SFT, place(**settings), TOKENS, gib) or SFT.batch_size

    assert rows(24.0) < rows(40.0) < rows(40.0, activation_checkpointing=True)


def test_a_step_that_fits_stays_one_pass(half_billion: Shape) -> None:
    assert rows_that_fit(half_billion, SFT, place(), TOKENS, 1000.0) is None


def test_where_nothing_fits_a_pass_has_one_row(half_billion: Shape) -> None:
    assert rows_that_fit(half_billion, SFT, place(), TOKENS, 1.0) == 1


def test_the_rows_of_the_user_are_not_changed() -> None:
    own = place(micro_batch=3)
    assert with_pass_size(BASE, SFT, own, TOKENS, 0.001) == (own, "")


def test_what_was_chosen_is_said() -> None:
    chosen, line = with_pass_size(BASE, SFT, place(), TOKENS, 2.0)
    assert chosen.micro_batch and line.startswith(f"{chosen.micro_batch} rows in a forward pass")
    _, line = with_pass_size(BASE, SFT, place(), TOKENS, 0.001)
    assert line.startswith("1 row in a forward pass")


def test_the_shipped_base_is_trained_in_one_pass() -> None:
    assert with_pass_size(BASE, SftConfig(), place(workers=2), 64, 4.0) == (place(workers=2), "")


def test_a_model_that_the_estimate_does_not_know_is_trained_in_one_pass(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    chosen, line = with_pass_size(tmp_path, SFT, place(), TOKENS, 0.001)
    assert chosen == place() and "memory is not known" in line


def test_workers_share_the_memory_of_a_machine_and_each_has_most_of_its_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray._common.utils.get_system_memory", lambda: 64 * memory.GIB)
    on_cpu = place(device="cpu")
    assert [memory_of_worker(on_cpu, workers) for workers in (1, 4)] == [32, 8]
    card = SimpleNamespace(total_memory=80 * memory.GIB)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", {1: card}.__getitem__)
    assert [memory_of_worker(place(), workers) for workers in (1, 4)] == [64, 64]


def test_all_ranks_take_the_smallest_memory_so_that_they_run_as_many_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = torch.distributed.ReduceOp
    combine: dict[Any, Any] = {
        kind.MIN: torch.minimum,
        kind.MAX: torch.maximum,
        kind.SUM: torch.add,
    }

    def all_reduce(own: torch.Tensor, op: Any) -> None:
        own.copy_(combine[op](own, torch.tensor([16.0])))  # of another rank

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    assert [smallest(gib, torch.device("cpu")) for gib in (24.0, 8.0)] == [16, 8]
