"""Checkpoints evaluated while the training that writes them goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from forkdiv.models.checkpoint import Checkpoint

Evaluate = Callable[[float, Checkpoint], None]  # of an epoch and its checkpoint

POLL_S = 0.5


@contextmanager
def watching(coming: Mapping[float, Checkpoint], evaluate: Evaluate) -> Iterator[None]:
    """Call `evaluate` with each checkpoint of `coming` as soon as it is written, one at a time, in
    a thread of its own. The end of the block waits for the one in hand and starts no other.

    What `evaluate` raises ends the thread, and is raised at the end of the block, which runs on.
    """
    ended = threading.Event()

    def follow() -> None:
        for epoch, checkpoint in sorted(coming.items()):
            while not checkpoint.path.exists():  # it comes by a rename: there it is whole
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
