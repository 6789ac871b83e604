"""The count of training runs: a run ends with its trial, however the trial ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from forkdiv.sample import trainings
from forkdiv.sample.trainings import Trainings


def an_owner(answers: list[Any]) -> Any:
    """The handle of an actor that answers, or is gone, or is busy (None), in this order."""

    async def ready() -> None:
        answer = answers.pop(0) if answers else None
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer

    return SimpleNamespace(__ray_ready__=SimpleNamespace(remote=ready))


def run(body: Callable[[Trainings], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(body(Trainings()), 20)

    asyncio.run(limited())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "CHECK_S", 0.01)


def test_the_engine_may_run_when_the_last_training_has_ended() -> None:
    async def body(kept: Trainings) -> None:
        await kept.begin("a", None)
        await kept.begin("b", an_owner([]))
        await kept.begin("b", an_owner([]))  # a trial that was started again
        await kept.end("b")
        assert await kept.running()
        await kept.end("a")
        await kept.end("a")
        assert not await kept.running()

    run(body)


def test_a_run_that_was_begun_again_outlives_the_actor_that_began_it_first() -> None:
    async def body(kept: Trainings) -> None:
        await kept.begin("a", an_owner([True, ray.exceptions.ActorDiedError()]))
        await kept.begin("a", an_owner([]))
        await asyncio.sleep(0.1)
        assert await kept.running()

    run(body)


def test_a_run_ends_with_the_actor_that_began_it_and_not_before() -> None:
    async def body(kept: Trainings) -> None:
        gone = ray.exceptions.ActorDiedError()
        unavailable = ray.exceptions.ActorUnavailableError("no answer", None)
        await kept.begin("idle, then busy", an_owner([True, unavailable, True]))
        await kept.begin("killed", an_owner([True, gone]))
        for _ in range(100):
            await asyncio.sleep(0.01)
            if list(kept._watches) == ["idle, then busy"]:
                break
        await asyncio.sleep(0.1)
        assert list(kept._watches) == ["idle, then busy"]

    run(body)
