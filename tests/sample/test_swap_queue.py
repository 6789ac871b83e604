"""Turns on an engine: few swaps, nobody starves, and never another checkpoint under a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.swap_queue import EngineAsleep, SwapQueue

A, B, C = (Checkpoint(Path(name), name) for name in "abc")


class Engine:
    """Remembers its swaps, and refuses one while somebody uses it."""

    def __init__(self, patience_s: float = 60.0) -> None:
        self.swaps: list[str] = []
        self.users = 0
        self.failing: dict[str, Exception] = {}
        self.turns = SwapQueue(self.swap, patience_s)

    async def swap(self, checkpoint: Checkpoint) -> None:
        assert self.users == 0, "swapped under a running request"
        await asyncio.sleep(0)
        if error := self.failing.get(checkpoint.fingerprint):
            raise error
        self.swaps.append(checkpoint.fingerprint)

    async def use(self, checkpoint: Checkpoint, rounds: int = 3) -> None:
        async with self.turns.holding(checkpoint):
            self.users += 1
            try:
                for _ in range(rounds):
                    assert self.turns.loaded == checkpoint
                    await asyncio.sleep(0)
            finally:
                self.users -= 1


def run(body: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(body(), 20))  # type: ignore[arg-type]


def test_mixed_requests_are_taken_checkpoint_by_checkpoint() -> None:
    async def body() -> None:
        engine = Engine()
        await asyncio.gather(*(engine.use(one) for one in [A, B, C] * 20))
        assert engine.swaps == ["a", "b", "c"]

    run(body)


def test_without_patience_the_others_get_their_turn_after_those_in_flight() -> None:
    async def body() -> None:
        engine = Engine(patience_s=0.0)
        first = asyncio.create_task(engine.use(A, rounds=10))
        while not engine.users:
            await asyncio.sleep(0)
        other = asyncio.create_task(engine.use(B))
        await asyncio.sleep(0)
        later = asyncio.create_task(engine.use(A))
        await asyncio.gather(first, other, later)
        assert engine.swaps == ["a", "b", "a"]

    run(body)


def test_a_stream_of_one_checkpoint_does_not_starve_another() -> None:
    async def body() -> None:
        engine = Engine(patience_s=0.05)
        stop = asyncio.Event()

        async def stream() -> None:
            while not stop.is_set():
                await engine.use(A)

        streams = [asyncio.create_task(stream()) for _ in range(4)]
        await asyncio.sleep(0.01)
        await asyncio.wait_for(engine.use(B), 5)
        stop.set()
        await asyncio.gather(*streams)

    run(body)


def test_a_failed_swap_fails_those_who_wait_for_it_and_no_others() -> None:
    async def body() -> None:
        engine = Engine()
        engine.failing = {"b": ValueError("not b")}
        found = await asyncio.gather(
            *(engine.use(one) for one in [A, B, B, C]), return_exceptions=True
        )
        assert [type(one) for one in found] == [type(None), ValueError, ValueError, type(None)]
        engine.failing = {}
        await engine.use(B)
        assert engine.swaps == ["a", "c", "b"]

    run(body)


def test_the_old_checkpoint_is_loaded_anew_after_a_failed_swap() -> None:
    async def body() -> None:
        engine = Engine()
        await engine.use(A)
        engine.failing = {"b": ValueError("half of b is in the engine now")}
        with pytest.raises(ValueError, match="half of b"):
            await engine.use(B)
        await engine.use(A)
        assert engine.swaps == ["a", "a"]

    run(body)


def test_a_suspended_engine_finishes_its_requests_and_turns_all_others_away() -> None:
    async def body() -> None:
        engine = Engine()
        running = asyncio.create_task(engine.use(A, rounds=10))
        while not engine.users:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(engine.use(B))
        await asyncio.sleep(0)
        suspending = asyncio.create_task(engine.turns.suspend())
        with pytest.raises(EngineAsleep):
            await waiting
        assert engine.users == 1 and not suspending.done()
        await asyncio.gather(running, suspending)
        for checkpoint in (A, B):
            with pytest.raises(EngineAsleep):
                await engine.use(checkpoint)
        assert engine.swaps == ["a"]

    run(body)


def test_no_checkpoint_counts_as_loaded_after_a_suspension() -> None:
    async def body() -> None:
        engine = Engine()
        await engine.use(A)
        await engine.turns.suspend()
        engine.turns.resume()
        await engine.use(A)
        assert engine.swaps == ["a", "a"]

    run(body)


def test_a_suspension_waits_for_a_running_swap_whose_requests_are_turned_away() -> None:
    async def body() -> None:
        engine = Engine()
        going, go = asyncio.Event(), asyncio.Event()

        async def slow(checkpoint: Checkpoint) -> None:
            going.set()
            await go.wait()

        engine.turns = SwapQueue(slow)
        request = asyncio.create_task(engine.use(A))
        await going.wait()
        suspending = asyncio.create_task(engine.turns.suspend())
        with pytest.raises(EngineAsleep):
            await request
        assert not suspending.done()
        go.set()
        await suspending
        assert engine.turns.loaded is None

    run(body)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 6), st.booleans()), max_size=25),
    st.sampled_from([0.0, 60.0]),
)
def test_a_cancelled_request_releases_the_engine(
    requests: list[tuple[Checkpoint, int, bool]], patience_s: float
) -> None:
    async def body() -> None:
        engine = Engine(patience_s)
        tasks = []
        for checkpoint, pause, gone in requests:
            tasks.append((asyncio.create_task(engine.use(checkpoint)), gone))
            for _ in range(pause):
                await asyncio.sleep(0)
            if gone:
                tasks[-1][0].cancel()
        found = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        for outcome, (_, gone) in zip(found, tasks, strict=True):
            assert outcome is None or (gone and isinstance(outcome, asyncio.CancelledError))
        await engine.use(A)
        assert engine.users == 0

    run(body)
