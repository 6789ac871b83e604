"""Schedules the checkpoint swaps of an engine: requests for one checkpoint run together.

A swap needs an idle engine. Handling requests strictly in order would swap at every change of
checkpoint in a mixed stream; always preferring the loaded checkpoint would starve the others. So
requests for the loaded checkpoint are admitted until another request has waited for `patience_s`
seconds. Then the engine finishes its requests, the checkpoint with the longest waiting request is
swapped in, and all requests that wait for it are admitted together.

An engine can also be suspended, so that training can use its memory. No request is admitted then,
and after it no checkpoint counts as loaded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from forkdiv.models.checkpoint import Checkpoint

PATIENCE_S = 2.0


class EngineAsleep(Exception):
    """The engine has given its memory to a training run; the request can be sent again later."""


@dataclass
class _Queue:
    """The requests that wait for one checkpoint, and the time of the first (monotonic seconds)."""

    since: float
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class SwapQueue:
    """Tracks the loaded checkpoint of one engine and the requests that hold it. Use it from one
    event loop only.

    `swap` loads a checkpoint into the idle engine. If it raises, every request that waits for that
    checkpoint gets the exception, and no checkpoint counts as loaded.
    """

    def __init__(
        self, swap: Callable[[Checkpoint], Awaitable[None]], patience_s: float = PATIENCE_S
    ) -> None:
        self.loaded: Checkpoint | None = None
        self._swap = swap
        self._patience_s = patience_s
        self._holders = 0
        self._queues: dict[Checkpoint, _Queue] = {}  # in the order of their first request
        self._changing: asyncio.Task[None] | None = None
        self.suspended = False
        self._drained: asyncio.Future[None] | None = None  # done when a suspension can go on

    @asynccontextmanager
    async def holding(self, checkpoint: Checkpoint) -> AsyncIterator[None]:
        """Keeps `checkpoint` loaded for the block; waits until it is loaded. Raises EngineAsleep
        while the engine is suspended."""
        if self.suspended:
            raise EngineAsleep
        if self._is_admitted(checkpoint):
            self._holders += 1
        else:
            await self._wait(checkpoint)
        try:
            yield
        finally:
            self._leave()

    async def suspend(self) -> None:
        """Waits until no request holds the engine and no swap runs. Requests that have to wait get
        EngineAsleep at once, as do all others until `resume`."""
        self.suspended = True
        self._turn_away()
        if self._holders or self._changing:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        self.loaded = None  # the weights do not survive

    def resume(self) -> None:
        """Admits requests again."""
        self.suspended = False

    def _turn_away(self) -> None:
        """Fails the requests that wait, also for a swap that is running."""
        for checkpoint in list(self._queues):
            for request in self._queues.pop(checkpoint).waiting:
                if not request.done():
                    request.set_exception(EngineAsleep())

    def _is_admitted(self, checkpoint: Checkpoint) -> bool:
        if self._changing or checkpoint != self.loaded:
            return False
        longest = next(iter(self._queues.values()), None)
        return longest is None or time.monotonic() - longest.since < self._patience_s

    async def _wait(self, checkpoint: Checkpoint) -> None:
        """Waits until `checkpoint` is loaded and this request is counted as a holder."""
        queue = self._queues.setdefault(checkpoint, _Queue(time.monotonic()))
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append(admitted)
        self._advance()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                self._leave()  # it was admitted and cancelled at the same time
            raise

    def _leave(self) -> None:
        self._holders -= 1
        self._advance()

    def _advance(self) -> None:
        """Starts the next change if no request holds the engine and a request waits."""
        if self._holders or self._changing:
            return
        if self._drained and not self._drained.done():
            self._drained.set_result(None)
        if self._queues:
            checkpoint = next(iter(self._queues))
            self._changing = asyncio.get_running_loop().create_task(self._change(checkpoint))

    async def _change(self, checkpoint: Checkpoint) -> None:
        failure: BaseException | None = None
        if checkpoint != self.loaded:  # equal where these requests only let others go first
            self.loaded = None  # if the swap fails, the old checkpoint is not loaded any more
            swap = asyncio.ensure_future(self._swap(checkpoint))
            await asyncio.wait([swap])
            failure = asyncio.CancelledError() if swap.cancelled() else swap.exception()
            self.loaded = None if failure else checkpoint
        # requests that arrived during the swap are admitted too; none is left after `_turn_away`
        queue = self._queues.pop(checkpoint, _Queue(0.0))
        self._changing = None
        for request in queue.waiting:
            if request.done():
                continue
            if failure is None:
                self._holders += 1
                request.set_result(None)
            else:
                request.set_exception(failure)
        self._advance()
