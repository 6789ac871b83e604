"""What went wrong in the trials of a sweep, in a line."""

from __future__ import annotations

from pathlib import Path

from ray import tune
from ray.exceptions import RayTaskError

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
    return f"the first error, of trial {name}: {_reason(first.error)} (log: {_error_file(first)})"


def _reason(error: Exception) -> str:
    if any(sign in str(error) or sign in type(error).__name__ for sign in OUT_OF_MEMORY):
        return MEMORY
    cause = error.cause if isinstance(error, RayTaskError) else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    kind = type(cause).__name__
    return f"{kind}: {shortened(lines[-1], 500)}" if lines else kind


def _error_file(result: tune.Result) -> Path:
    return Path(result.path) / ERROR_FILE
