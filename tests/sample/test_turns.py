"""An engine gives its memory to training, and never answers from what it lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from forkdiv.core.config.study import EngineConfig
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import vllm_engine
from forkdiv.sample.engine_settings import EngineSpec
from forkdiv.sample.output_check import OutputCheck
from forkdiv.sample.proved_weights import ProvedWeights
from forkdiv.sample.swap_queue import EngineAsleep, SwapQueue
from forkdiv.sample.turns import EngineTurns
from forkdiv.sample.vllm_engine import VllmEngine
from tests.stack import BASE

A = Checkpoint(Path("a"), "a")
GIB = 2**30
SLEEP = EngineConfig(while_training="sleep")
STOP = EngineConfig(while_training="stop")


class FakeLlm:
    """What is used of AsyncLLM. Its GPU has 10 GiB, of which it takes 8; `others` is taken by
    other processes."""

    def __init__(self, calls: list[str]) -> None:
        self.calls, self.others, self.asleep = calls, 0, False
        self.fails: Exception | None = None

    async def sleep(self, level: int, mode: str) -> None:
        self.calls.append(f"sleep {level} {mode}")
        self.asleep = True

    async def wake_up(self) -> None:
        self.calls.append("wake_up")
        if self.fails:
            raise self.fails
        self.asleep = False

    async def collective_rpc(self, name: str) -> list[int]:
        assert name == "forkdiv_free_bytes"
        return [(10 - self.others - (0 if self.asleep else 8)) * GIB]

    def shutdown(self) -> None:
        self.calls.append("shutdown")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done with vLLM, which is not there."""
    done: list[str] = []

    def start(spec: EngineSpec) -> Any:
        done.append(f"start {spec.shape_of.name}")
        return FakeLlm(done)

    monkeypatch.setattr(vllm_engine, "_import", lambda: None)
    monkeypatch.setattr(vllm_engine, "_as_dead", nullcontext)  # it imports vLLM, for seconds
    monkeypatch.setattr(vllm_engine, "_start", start)
    monkeypatch.setattr(vllm_engine, "_has_sleep_mode", lambda: True)
    monkeypatch.setattr(vllm_engine, "POLL_S", 0.01)
    return done


class House:
    """An engine that takes turns; `training` says whether a model is trained. It holds the
    weights of `loaded`."""

    def __init__(self, config: EngineConfig) -> None:
        self.engine = VllmEngine(EngineSpec(BASE, "float32", "gpu", config, ((1,),)))
        self.training = False
        self.loaded: list[str] = []
        self.queue = SwapQueue(self._swap)
        self.checks = 0
        weights: Any = SimpleNamespace(check_again=self._check)
        self.turns = EngineTurns(self.engine, weights, self.queue, self._training)

    async def ask(self, checkpoint: Checkpoint = A) -> None:
        await self.turns.take()
        async with self.queue.holding(checkpoint):
            assert self.engine.state == "running"

    @property
    def llm(self) -> FakeLlm:
        return cast(FakeLlm, self.engine.llm)

    async def _training(self) -> bool:
        await asyncio.sleep(0)
        return self.training

    async def _swap(self, checkpoint: Checkpoint) -> None:
        assert self.engine.state == "running", "swapped into an engine without memory"
        self.loaded.append(checkpoint.fingerprint)

    async def _check(self) -> None:
        self.checks += 1


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(body(), 20)

    asyncio.run(limited())


def test_an_engine_that_takes_turns_starts_at_the_first_request(calls: list[str]) -> None:
    async def body() -> None:
        house = House(SLEEP)
        assert calls == [] and await house.turns.give() == "stopped"
        await asyncio.gather(*(house.ask() for _ in range(8)))
        assert calls == [f"start {BASE.name}"] and house.loaded == ["a"]

    run(body)


def test_an_engine_with_its_own_memory_starts_at_once(calls: list[str]) -> None:
    House(EngineConfig())
    assert calls == [f"start {BASE.name}"]


def test_a_sleeping_engine_wakes_at_the_first_request_after_training(calls: list[str]) -> None:
    async def body() -> None:
        house = House(SLEEP)
        await house.ask()
        house.training = True
        assert await house.turns.give() == "asleep"
        for _ in range(3):
            with pytest.raises(EngineAsleep):
                await house.ask()
        assert calls == [f"start {BASE.name}", "sleep 2 wait"]
        house.training = False
        await asyncio.gather(*(house.ask() for _ in range(8)))
        assert calls[2:] == ["wake_up"] and house.checks == 2

    run(body)


def test_weights_that_were_loaded_before_training_are_loaded_again(calls: list[str]) -> None:
    async def body() -> None:
        for config in (SLEEP, STOP):
            house = House(config)
            await house.ask()
            await house.turns.give()
            await house.ask()
            assert house.loaded == ["a", "a"]

    run(body)


def test_without_a_sleep_mode_the_engine_is_stopped_and_started(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        for config, has_mode in ((STOP, True), (SLEEP, False)):
            monkeypatch.setattr(vllm_engine, "_has_sleep_mode", lambda has=has_mode: has)
            calls.clear()
            house = House(config)
            await house.ask()
            assert await house.turns.give() == "stopped"
            await house.ask()
            assert calls == [f"start {BASE.name}", "shutdown", f"start {BASE.name}"]
            assert house.checks == 2

    run(body)


def test_an_engine_wakes_only_when_the_memory_that_it_freed_is_free_again(
    calls: list[str],
) -> None:
    async def body() -> None:
        house = House(SLEEP)
        await house.ask()
        await house.turns.give()
        house.llm.others = 5
        asking = asyncio.create_task(house.ask())
        await asyncio.sleep(0.1)
        assert "wake_up" not in calls
        house.llm.others = 1
        await asking
        assert calls[-1] == "wake_up"

    run(body)


def test_an_engine_that_cannot_be_woken_up_is_replaced(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        monkeypatch.setattr(vllm_engine, "FREE_MEMORY_TIMEOUT_S", 0.05)
        house = House(SLEEP)
        await house.ask()
        await house.turns.give()
        house.llm.others, house.llm.fails = 5, Exception("out of memory")
        await house.ask()
        assert calls[-3:] == ["wake_up", "shutdown", f"start {BASE.name}"]
        assert house.engine.state == "running" and house.loaded == ["a", "a"]

    run(body)


def test_a_start_that_fails_fails_the_requests_that_wait_and_the_next_starts_again(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        house = House(SLEEP)
        start = vllm_engine._start
        starts: list[int] = []

        def broken(spec: EngineSpec) -> Any:
            starts.append(1)
            raise RuntimeError("no memory")

        monkeypatch.setattr(vllm_engine, "_start", broken)
        found = await asyncio.gather(*(house.ask() for _ in range(4)), return_exceptions=True)
        assert [str(one) for one in found] == ["no memory"] * 4 and len(starts) == 1
        monkeypatch.setattr(vllm_engine, "_start", start)
        await house.ask()

    run(body)


def test_an_engine_whose_restart_failed_is_started_by_the_next_request(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        house = House(EngineConfig())  # it has its own memory: nothing but requests starts it
        start = vllm_engine._start

        def broken(spec: EngineSpec) -> Any:
            raise RuntimeError("no memory")

        monkeypatch.setattr(vllm_engine, "_start", broken)
        with pytest.raises(RuntimeError, match="no memory"):
            await house.engine.restart(BASE)
        assert house.engine.state == "stopped"
        monkeypatch.setattr(vllm_engine, "_start", start)
        await house.ask()
        assert calls[-1] == f"start {BASE.name}"

    run(body)


def test_no_request_is_admitted_while_a_started_engine_is_checked(calls: list[str]) -> None:
    """The check swaps weights too."""

    async def body() -> None:
        house = House(STOP)
        checking, checked = asyncio.Event(), asyncio.Event()

        async def check() -> None:
            checking.set()
            await checked.wait()

        weights: Any = house.turns._weights
        weights.check_again = check
        first = asyncio.create_task(house.ask())
        await checking.wait()
        second = asyncio.create_task(house.ask())
        for _ in range(10):
            await asyncio.sleep(0)
        assert house.engine.state == "running" and house.loaded == []
        checked.set()
        await asyncio.gather(first, second)
        assert house.loaded == ["a"]

    run(body)


def test_training_that_begins_while_the_engine_starts_gets_its_memory(
    calls: list[str],
) -> None:
    async def body() -> None:
        house = House(SLEEP)
        asking = asyncio.create_task(house.ask())
        await asyncio.sleep(0)
        house.training = True
        await asyncio.gather(house.turns.give(), asking, return_exceptions=True)
        assert house.engine.state != "running"

    run(body)


def test_a_cancelled_turn_leaves_the_engine_answering(calls: list[str]) -> None:
    async def body() -> None:
        house = House(SLEEP)
        await house.ask()
        held = asyncio.Event()

        async def hold() -> None:
            async with house.queue.holding(A):
                await held.wait()

        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)
        giving = asyncio.create_task(house.turns.give())
        await asyncio.sleep(0)
        giving.cancel()
        held.set()
        await asyncio.gather(holding, giving, return_exceptions=True)
        await house.ask()

    run(body)


SEQUENCES, BEFORE = [[1, 2, 3]], np.array([-1.0, -2.0])
FOUND = OutputCheck(tokens=2, noise=0.01, change=1.0, slope=1.0, correlation=1.0, residual=0.1)


@pytest.mark.parametrize(
    ("deviation", "problems", "kept"),
    [
        (0.0, [], True),
        (0.009, [], True),
        (0.5, [], False),
        (np.nan, [], False),
        (0.0, ["w"], False),
    ],
)
def test_an_engine_that_computes_otherwise_after_training_is_replaced(
    calls: list[str], deviation: float, problems: list[str], kept: bool
) -> None:
    async def body() -> None:
        engine = VllmEngine(EngineSpec(BASE, "float32", "gpu", EngineConfig(), ((1,),)))
        swapped: list[Path] = []

        async def swap(path: Path) -> list[dict[str, Any]]:
            swapped.append(path)
            return [{"problems": problems, "not_finite": []}]

        weights = ProvedWeights(engine)
        again: Any = engine
        again.swap = swap
        read: Any = weights
        read._token_logprobs = lambda sequences: _done(BEFORE + deviation)
        await weights.check_again()
        assert swapped == []  # nothing was checked before
        weights.outputs, weights._checked = replace(FOUND), (SEQUENCES, BEFORE)
        await weights.check_again()
        assert swapped == [BASE]
        assert (weights.outputs is not None) == kept
        assert len(calls) == (1 if kept else 3)  # else one more end and start

    run(body)


async def _done(value: Any) -> Any:
    return value
