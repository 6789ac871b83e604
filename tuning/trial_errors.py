"""What went wrong in the trials of a sweep, in a line."""

from __future__ import annotations

import pickle
from pathlib import Path

from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial

from forkdiv.core.errors import shortened

ERROR_FILE = "error.txt"  # which Ray Tune writes into a trial's folder
OUT_OF_MEMORY = ("OutOfMemoryError", "low on memory", "memory monitor", "OOM")
MEMORY = (
    "Ray's memory monitor ended it because the memory of the machine was nearly full; lower "
    "place.max_concurrent_trials, place.workers or place.micro_batch, or use a machine with more "
    "memory"
)


def explained(outcome: tune.ResultGrid) -> str:
    """Returns the first error of the sweep's trials, and the file that has all of it."""
    failed = [result for result in outcome if result.error]
    first = min(failed, key=lambda result: _error_file(result).stat().st_mtime)
    name = Path(first.path).name
    return f"the first error, of trial {name}: {reason(first.error)} (log: {_error_file(first)})"


def reason(error: Exception | str) -> str:
    """Returns why a trial failed, in a line. Ray Tune has a text, the end of the error file,
    for errors of Ray itself."""
    if any(sign in str(error) or sign in type(error).__name__ for sign in OUT_OF_MEMORY):
        return MEMORY
    cause = error.cause if isinstance(error, RayTaskError) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    last = shortened(lines[-1], 500) if lines else ""
    if isinstance(cause, str):
        return last or "without a message"
    return f"{type(cause).__name__}: {last}" if last else type(cause).__name__


def latest_reason(trial: Trial) -> str:
    """Returns why a trial has just failed, from the files in which Ray Tune notes it."""
    pickled = Path(trial.pickled_error_file)
    if trial.run_metadata.pickled_error_filename and pickled.is_file():
        return reason(pickle.loads(pickled.read_bytes()))
    failures = Path(trial.error_file).read_text(encoding="utf-8").split("\nFailure # ")
    return reason(failures[-1])


def _error_file(result: tune.Result) -> Path:
    return Path(result.path) / ERROR_FILE
