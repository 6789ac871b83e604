"""Evaluates checkpoints while the training that writes them continues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from forkdiv.models.checkpoint import Checkpoint

Evaluate = Callable[[float, Checkpoint], None]  # takes an epoch and its checkpoint

POLL_S = 0.5


@contextmanager
def evaluating(scheduled: Mapping[float, Checkpoint], evaluate: Evaluate) -> Iterator[None]:
    """Calls `evaluate` with each checkpoint of `scheduled`, by epoch, as soon as it is written: one
    at a time, in a separate thread. The end of the block waits for the evaluation that is running
    and starts no other.

    An exception of `evaluate` ends the thread but not the block; it is raised at the block's end.
    """
    ended = threading.Event()

    def follow() -> None:
        for epoch, checkpoint in sorted(scheduled.items()):
            while not checkpoint.path.exists():  # it appears by a rename, so it is complete
                if ended.wait(POLL_S):
                    return
            if ended.is_set():
                return
            evaluate(epoch, checkpoint)

    with ThreadPoolExecutor(1, "forkdiv-watch") as pool:
        following = pool.submit(follow)
        try:
            yield
        finally:
            ended.set()
    following.result()
