"""An engine gives its memory to training runs, and takes it back: they share a GPU in turns.

A trial registers its run with `trainings`, asks the engine to free its memory, and trains. The
engine takes its memory back at the first request after the last run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from forkdiv.sample.swap_queue import EngineAsleep, SwapQueue

if TYPE_CHECKING:
    from forkdiv.sample.proved_weights import ProvedWeights
    from forkdiv.sample.vllm_engine import State, VllmEngine


class EngineTurns:
    """Gives the memory of an engine away, and takes it back when `training` says that no model is
    being trained. Without `training`, the engine keeps its memory."""

    def __init__(
        self,
        engine: VllmEngine,
        weights: ProvedWeights,
        queue: SwapQueue,
        training: Callable[[], Awaitable[bool]] | None,
    ) -> None:
        self._engine, self._weights, self._queue = engine, weights, queue
        self._training = training
        self._turn = asyncio.Lock()  # of `give` and `take`
        self._taking: asyncio.Task[None] | None = None

    async def give(self) -> State:
        """Frees the engine's memory after the requests in flight; returns how."""
        async with self._turn:
            await self._queue.suspend()
            return await self._engine.free()

    async def take(self) -> None:
        """Returns when the engine runs. Requests that come together wait for one start, and share
        its failure. Raises EngineAsleep while a model is being trained."""
        running = self._engine.state == "running" and not self._queue.suspended
        if running and not self._turn.locked():
            return
        if self._taking is None:
            self._taking = asyncio.ensure_future(self._take())
            self._taking.add_done_callback(self._taken)
        await asyncio.shield(self._taking)

    def _taken(self, task: asyncio.Task[None]) -> None:
        self._taking = None

    async def _take(self) -> None:
        async with self._turn:
            if self._training is not None and await self._training():
                raise EngineAsleep
            if self._engine.state != "running":
                await self._engine.run()
                await self._weights.check_again()
            self._queue.resume()
