"""A model has as many threads as its size can use and as its machine has cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkdiv.core.config.study import PlaceConfig
from forkdiv.models import cpu
from forkdiv.models.weights import parameter_count
from forkdiv.train.worker import worker_threads
from tests.stack import BASE


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "cpu_count", lambda only_physical_cores: 8)


@pytest.mark.parametrize(
    ("parameters", "sharing", "expected"),
    [(0, 1, 1), (700_000, 1, 1), (35_000_000, 1, 3), (135_000_000, 1, 8), (135_000_000, 3, 2)],
)
def test_a_larger_model_has_more_threads_up_to_its_share_of_the_cores(
    parameters: int, sharing: int, expected: int
) -> None:
    assert cpu.threads(parameters, sharing) == expected


def test_more_processes_than_cores_have_one_thread_each() -> None:
    assert cpu.threads(10**9, sharing=20) == 1


def test_the_parameters_of_a_checkpoint_are_those_of_its_tensors() -> None:
    from forkdiv.models.loading import load_model

    assert parameter_count(BASE) == sum(p.numel() for p in load_model(BASE).parameters())


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({}, 1),
        ({"cpus_per_worker": 2.0}, 2),
        ({"threads_per_worker": 3, "cpus_per_worker": 2.0}, 3),
    ],
)
def test_a_training_worker_has_the_threads_that_are_set_or_its_reserved_cpus(
    place: dict[str, Any], expected: int
) -> None:
    assert worker_threads(Path(BASE), PlaceConfig.model_validate(place), 2) == expected


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", False),
        ("processor\t: 0\nflags\t\t: fpu avx2\nbugs\t: bf16\n", True),
        ("hart: 0\n", False),
    ],
)
def test_a_cpu_without_bfloat16_is_known_by_its_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, lacks: bool
) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
    assert not cpu.lacks_bfloat16()
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu.lacks_bfloat16() == lacks
