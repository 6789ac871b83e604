"""What Ray raises for a process that its memory monitor has ended, in a line."""

from __future__ import annotations

# of an error's class or text; the text itself has hundreds of lines, on all processes
SIGNS = ("OutOfMemoryError", "running low on memory", "memory monitor")
LINE = (
    "Ray's memory monitor ended it because the memory of the machine was nearly full; lower "
    "place.max_concurrent_trials, place.workers or place.micro_batch, or use a machine with more "
    "memory"
)


def is_out_of_memory(error: Exception | str) -> bool:
    """Returns whether the error, or what it was raised from, is that of Ray's memory monitor."""
    seen: BaseException | str | None = error
    while seen is not None:
        text = f"{type(seen).__name__} {seen}"
        if any(sign in text for sign in SIGNS):
            return True
        seen = seen.__cause__ if isinstance(seen, BaseException) else None
    return False
