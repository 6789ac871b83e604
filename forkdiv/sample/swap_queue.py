"""Whose turn an engine's weights are: requests for one checkpoint together, the others wait.

A swap needs an idle engine. Taking requests strictly as they come would swap at each change of
name in a mixed stream; letting the loaded checkpoint's requests in for ever would starve the
others. So those of the loaded checkpoint go in until somebody has waited for `patience_s`; then
the engine runs dry, the checkpoint that was waited for longest is swapped in, and all who wait
for it go in together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from forkdiv.models.checkpoint import Checkpoint

PATIENCE_S = 2.0


@dataclass
class _Queue:
    """Who waits for one checkpoint, and since when."""

    since: float
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class SwapQueue:
    """The loaded checkpoint of one engine. All methods belong to one event loop.

    `swap` puts a checkpoint into the idle engine; what it raises, everybody who waits for that
    checkpoint gets, and no checkpoint is loaded any more.
    """

    def __init__(
        self, swap: Callable[[Checkpoint], Awaitable[None]], patience_s: float = PATIENCE_S
    ) -> None:
        self.loaded: Checkpoint | None = None
        self._swap = swap
        self._patience_s = patience_s
        self._holders = 0
        self._queues: dict[Checkpoint, _Queue] = {}  # the longest waited for first
        self._changing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def holding(self, checkpoint: Checkpoint) -> AsyncIterator[None]:
        """Keep `checkpoint` loaded for the block."""
        if self._may_enter(checkpoint):
            self._holders += 1
        else:
            await self._turn(checkpoint)
        try:
            yield
        finally:
            self._leave()

    def _may_enter(self, checkpoint: Checkpoint) -> bool:
        if self._changing or checkpoint != self.loaded:
            return False
        longest = next(iter(self._queues.values()), None)
        return longest is None or time.monotonic() - longest.since < self._patience_s

    async def _turn(self, checkpoint: Checkpoint) -> None:
        """Wait until `checkpoint` is loaded and counted as held."""
        queue = self._queues.setdefault(checkpoint, _Queue(time.monotonic()))
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append(mine)
        self._advance()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled() and mine.exception() is None:
                self._leave()  # let in, and gone before it could know
            raise

    def _leave(self) -> None:
        self._holders -= 1
        self._advance()

    def _advance(self) -> None:
        """Begin the next turn where nobody holds the engine and somebody waits."""
        if not self._holders and not self._changing and self._queues:
            checkpoint = next(iter(self._queues))
            self._changing = asyncio.get_running_loop().create_task(self._change(checkpoint))

    async def _change(self, checkpoint: Checkpoint) -> None:
        failure: BaseException | None = None
        if checkpoint != self.loaded:  # else they waited for others to have had their turn
            self.loaded = None  # whatever fails below, the old name no longer holds
            swap = asyncio.ensure_future(self._swap(checkpoint))
            await asyncio.wait([swap])
            failure = asyncio.CancelledError() if swap.cancelled() else swap.exception()
            self.loaded = None if failure else checkpoint
        # whoever came during the swap goes in as well
        queue = self._queues.pop(checkpoint)
        self._changing = None
        for one in queue.waiting:
            if one.done():
                continue
            if failure is None:
                self._holders += 1
                one.set_result(None)
            else:
                one.set_exception(failure)
        self._advance()
