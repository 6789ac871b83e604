"""What went wrong in the trials of a sweep, in a line."""

from __future__ import annotations

import pickle
from pathlib import Path

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from forkdiv.core import out_of_memory
from forkdiv.core.errors import shortened
from forkdiv.core.out_of_memory import is_out_of_memory

ERROR_FILE = "error.txt"  # which Ray Tune writes into a trial's folder


def explained(outcome: tune.ResultGrid) -> str:
    """Returns the first error of the sweep's trials, and the file that has all of it."""
    failed = [result for result in outcome if result.error]
    first = min(failed, key=lambda result: _error_file(result).stat().st_mtime)
    name = Path(first.path).name
    return f"the first error, of trial {name}: {reason(first.error)} (log: {_error_file(first)})"


def reason(error: Exception | str) -> str:
    """Returns why a trial failed, in a line. Ray Tune has a text, the end of the error file,
    for errors of Ray itself."""
    if is_out_of_memory(error):
        return out_of_memory.LINE
    cause = error.cause if isinstance(error, RayTaskError) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    last = shortened(lines[-1], 500) if lines else ""
    if isinstance(cause, str):
        return last or "without a message"
    return f"{type(cause).__name__}: {last}" if last else type(cause).__name__


def latest_reason(trial: Trial) -> str:
    """Returns why a trial has just failed, from the files in which Ray Tune notes it."""
    pickled = trial.pickled_error_file  # None for errors of Ray itself, which it does not pickle
    if pickled and Path(pickled).is_file():
        return reason(pickle.loads(Path(pickled).read_bytes()))
    failures = Path(trial.error_file).read_text(encoding="utf-8").split("\nFailure # ")
    return reason(failures[-1])


def _error_file(result: tune.Result) -> Path:
    return Path(result.path) / ERROR_FILE
