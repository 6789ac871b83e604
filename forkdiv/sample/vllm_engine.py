"""vLLM's engine: its start and end, requests of token ids, loading weights into it, and giving its
memory to a training run."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from forkdiv.core.gc_pause import gc_paused
from forkdiv.models.checkpoint import read_config
from forkdiv.models.shape import vocabulary_size
from forkdiv.sample.engine_settings import EngineSpec, engine_arguments, set_threads
from forkdiv.sample.token_ids import UnanswerableRequest, check_ids

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


State = Literal["running", "asleep", "stopped"]
FREE_MEMORY_TIMEOUT_S, POLL_S = 60.0, 0.5
log = logging.getLogger(__name__)


class EngineDead(Exception):
    """vLLM's processes ended; a new engine is needed."""


@contextmanager
def _as_dead() -> Iterator[None]:
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineDead(str(error)) from error


class VllmEngine:
    """An engine; it is running from the start unless it takes turns with training. Use it from one
    event loop only.

    `free` gives its memory to a training run, and `run` takes it back. Afterwards the engine has no
    checkpoint's weights: those of an engine that was asleep are undefined.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.state: State = "stopped"
        self._llm: AsyncLLM | None = None
        self._restarting = False
        self._slept_bytes = 0  # the memory that the engine freed on each GPU when it went to sleep
        self.seconds = {"imports": _timed(_import), "start": 0.0}
        if spec.store:
            spec.store.whole(spec.shape_of)
        self.vocabulary = vocabulary_size(read_config(spec.shape_of)) or 0
        if not spec.config.takes_turns:
            self._started(spec)

    @property
    def llm(self) -> AsyncLLM:
        """vLLM's engine; another one after a restart."""
        if self._llm is None:
            raise RuntimeError("the engine is not started")
        return self._llm

    def _started(self, spec: EngineSpec) -> None:
        started = time.perf_counter()
        self._llm = _start(spec)
        self.seconds["start"] = time.perf_counter() - started
        self.state = "running"

    async def generate(self, ids: list[int], parameters: Any) -> Any:
        """Returns vLLM's final output for a prompt of token ids.

        Raises UnanswerableRequest if vLLM rejects the request, and EngineDead.
        """
        from vllm.exceptions import VLLMClientError

        check_ids(ids, self.vocabulary, "the prompt")
        final = None
        try:
            with _as_dead():
                prompt: Any = {"prompt_token_ids": ids}
                async for output in self.llm.generate(prompt, parameters, uuid.uuid4().hex):
                    final = output
        except (VLLMClientError, ValueError) as error:
            raise UnanswerableRequest(str(error)) from error
        assert final is not None and final.finished
        return final

    @property
    def unfinished_tokens(self) -> int:
        """The number of tokens drawn for requests that are not finished."""
        running: Any = self.llm.output_processor.request_states.values()
        detokenizers = [state.detokenizer for state in running if state.detokenizer]
        return sum(int(one.num_output_tokens()) for one in detokenizers)

    async def swap(self, path: Path) -> list[dict[str, Any]]:
        """Loads the weights of the checkpoint `path` in every worker of the engine; returns the
        fields of their proofs. Requests must have been answered. Raises EngineDead."""
        with _as_dead():
            await self.llm.pause_generation(mode="wait", clear_cache=True)
            proofs: list[dict[str, Any]] = await self.llm.collective_rpc(
                "forkdiv_swap", args=(str(path),)
            )
            await self.llm.resume_generation()
        return proofs

    async def restart(self, shape_of: Path) -> None:
        """Replaces the engine by a new one that starts with the checkpoint `shape_of`."""
        self._restarting = True
        try:
            if self._llm is not None:
                self._llm.shutdown()
            spec = replace(self.spec, shape_of=shape_of)
            await asyncio.get_running_loop().run_in_executor(None, self._started, spec)
        except BaseException:
            self._llm, self.state = None, "stopped"  # the next request starts an engine
            raise
        finally:
            self._restarting = False

    async def free(self) -> State:
        """Frees the engine's memory; returns how. Requests must have been answered.

        With place.engine.while_training=sleep, vLLM discards the weights and the KV cache and keeps
        its processes, with the GPU's context and the captured graphs. Otherwise, and where vLLM has
        no sleep mode, the engine is ended. Raises EngineDead.
        """
        if self.state != "running":
            return self.state
        if self.spec.config.while_training != "sleep" or not _has_sleep_mode():
            self._stop()
            return self.state
        before = await self._free_bytes()
        with _as_dead():
            await self.llm.sleep(level=2, mode="wait")
        self.state = "asleep"
        self._slept_bytes = await self._free_bytes() - before
        return self.state

    async def run(self) -> None:
        """Takes the engine's memory back: wakes it up, or starts it. Raises EngineDead."""
        if self.state == "asleep":
            await self._wake()
        elif self.state == "stopped":
            await self.restart(self.spec.shape_of)

    async def _wake(self) -> None:
        """Wakes vLLM up, or starts a new engine if its memory cannot be had."""
        deadline = time.monotonic() + FREE_MEMORY_TIMEOUT_S
        # the processes of a training run that has just ended may still hold memory
        while (free := await self._free_bytes()) < self._slept_bytes:
            if time.monotonic() > deadline:
                log.warning("%d bytes are free, the engine had %d", free, self._slept_bytes)
                break
            await asyncio.sleep(POLL_S)
        try:
            with _as_dead():
                await self.llm.wake_up()
        except EngineDead:
            raise
        except Exception as error:  # noqa: BLE001 (vLLM's class for all errors of its core)
            log.warning("the engine could not be woken up (%s); starting a new one", error)
            await self.restart(self.spec.shape_of)
        self.state = "running"

    async def _free_bytes(self) -> int:
        """Returns the free memory of the engine's GPU; of several, the smallest."""
        with _as_dead():
            return int(min(await self.llm.collective_rpc("forkdiv_free_bytes")))

    def _stop(self) -> None:
        if self._llm is not None:
            self._llm.shutdown()
        self._llm, self.state = None, "stopped"

    async def alive(self) -> None:
        """Raises EngineDead if the engine's processes have ended."""
        if self._restarting or self._llm is None:
            return
        with _as_dead():
            await self.llm.check_health()

    def close(self) -> None:
        self._stop()


def _has_sleep_mode() -> bool:
    from vllm.platforms import current_platform

    has: bool = current_platform.is_sleep_mode_available()
    return has and bool(current_platform.is_cumem_allocator_available())


def _import() -> None:
    with gc_paused():
        import vllm.v1.engine.async_llm  # noqa: F401


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _start(spec: EngineSpec) -> AsyncLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    set_threads(spec)
    sleeps = spec.config.while_training == "sleep" and _has_sleep_mode()
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**engine_arguments(spec, sleeps), enable_log_requests=False),
        # vLLM's defaults for throughput, by the GPU; without it, 128 responses at once on any GPU
        usage_context=UsageContext.LLM_CLASS,
    )
