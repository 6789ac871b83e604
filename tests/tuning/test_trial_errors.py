"""A failed sweep says in a line what failed first, why, and where all of it is."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.exceptions import OutOfMemoryError, RayTaskError

from tuning.trial_errors import ERROR_FILE, explained, latest_reason


def failed(folder: Path, error: Exception | str, at: float) -> Any:
    folder.mkdir()
    file = folder / ERROR_FILE
    file.write_text("a traceback of many lines")
    os.utime(file, (at, at))
    return SimpleNamespace(error=error, path=str(folder))


def test_it_names_the_first_error_its_trial_and_its_log(tmp_path: Path) -> None:
    later = failed(tmp_path / "density0_T1", RuntimeError("a consequence"), at=2000)
    first = failed(tmp_path / "density1_T1", RuntimeError("line one\n\n  the cause"), at=1000)
    fine = SimpleNamespace(error=None, path=str(tmp_path))
    line = explained(cast(Any, [later, fine, first]))
    assert "RuntimeError: the cause" in line
    assert "trial density1_T1" in line
    assert str(tmp_path / "density1_T1" / ERROR_FILE) in line
    assert "consequence" not in line and "\n" not in line


def test_an_error_in_a_process_of_ray_is_shown_as_what_it_is(tmp_path: Path) -> None:
    error = RayTaskError("train", "Traceback …\nValueError: wrong", ValueError("wrong"))
    line = explained(cast(Any, [failed(tmp_path / "a", error, at=0)]))
    assert "ValueError: wrong" in line and "RayTaskError" not in line


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Task was killed due to the node running low on memory.\n" * 80),
        "Failure # 1\nTask was killed due to the node running low on memory.\n" * 80,
        RayTaskError(
            "train", "ray.exceptions.OutOfMemoryError: Task was killed", OutOfMemoryError("killed")
        ),
    ],
)
def test_what_the_memory_monitor_ended_is_a_line_with_what_to_do(
    tmp_path: Path, error: Exception | str
) -> None:
    line = explained(cast(Any, [failed(tmp_path / "a", error, at=0)]))
    assert "memory of the machine was nearly full" in line
    assert "place.max_concurrent_trials" in line
    assert len(line) < 600


def test_the_latest_error_of_a_trial_is_read_from_tunes_files(tmp_path: Path) -> None:
    text = tmp_path / "error.txt"
    text.write_text("Failure # 1 (…)\nthe first\nFailure # 2 (…)\na line\nthe last\n")
    trial = SimpleNamespace(error_file=str(text), pickled_error_file=None)
    assert latest_reason(cast(Any, trial)) == "the last"
    pickled = tmp_path / "error.pkl"
    pickled.write_bytes(pickle.dumps(ValueError("as it was raised")))
    trial.pickled_error_file = str(pickled)
    assert latest_reason(cast(Any, trial)) == "ValueError: as it was raised"
