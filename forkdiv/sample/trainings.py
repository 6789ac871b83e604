"""The training runs that use the memory of an engine: a Ray actor of the study keeps count."""

from __future__ import annotations

import asyncio
from typing import Any

import ray

CHECK_S = 5.0  # between two questions whether a trial still exists


class Trainings:
    """The training runs that use an engine's memory now. A run ends with `end`, or when the actor
    that began it is gone: a killed trial does not keep the engine asleep for ever."""

    def __init__(self) -> None:
        self._watches: dict[str, asyncio.Task[None] | None] = {}

    async def begin(self, name: str, owner: Any) -> None:
        """Registers the run `name`; `owner` is the handle of the actor that waits for its end, or
        None for the driver, with which Ray ends everything."""
        await self.end(name)
        watch = self._watch(name, owner) if owner is not None else None
        self._watches[name] = asyncio.ensure_future(watch) if watch is not None else None

    async def end(self, name: str) -> None:
        """Removes the run `name`, if it is registered."""
        watch = self._watches.pop(name, None)
        if watch is not None:
            watch.cancel()

    async def running(self) -> bool:
        """Returns whether any run is registered."""
        return bool(self._watches)

    async def _watch(self, name: str, owner: Any) -> None:
        while True:
            try:
                await owner.__ray_ready__.remote()  # while the actor is busy, no answer comes
            except ray.exceptions.ActorUnavailableError:
                pass  # its node does not answer now; Ray decides whether it is lost
            except ray.exceptions.RayActorError:
                self._watches.pop(name, None)
                return
            await asyncio.sleep(CHECK_S)


def start_trainings(name: str) -> Any:
    """Starts the actor of a study under `name`; returns its handle. The actor ends with it."""
    return ray.remote(Trainings).options(name=name, num_cpus=0).remote()
