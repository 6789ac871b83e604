"""vLLM's engine: its start and end, requests of token ids, and loading weights into it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forkdiv.core.gc_pause import gc_paused
from forkdiv.models.checkpoint import read_config
from forkdiv.models.shape import vocabulary_size
from forkdiv.sample.engine_settings import EngineSpec, engine_arguments, set_threads
from forkdiv.sample.token_ids import UnanswerableRequest, check_ids

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


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
    """A running engine. Use it from one event loop only."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._restarting = False
        self.seconds = {"imports": _timed(_import), "start": 0.0}
        started = time.perf_counter()
        self.llm: AsyncLLM = _start(spec)
        self.seconds["start"] = time.perf_counter() - started
        self.vocabulary = vocabulary_size(read_config(spec.shape_of)) or 0

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
        spec = replace(self.spec, shape_of=shape_of)
        self._restarting = True
        try:
            self.llm.shutdown()
            self.llm = await asyncio.get_running_loop().run_in_executor(None, _start, spec)
        finally:
            self._restarting = False

    async def alive(self) -> None:
        """Raises EngineDead if the engine's processes have ended."""
        if self._restarting:
            return
        with _as_dead():
            await self.llm.check_health()

    def close(self) -> None:
        self.llm.shutdown()


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
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**engine_arguments(spec), enable_log_requests=False),
        # vLLM's defaults for throughput, by the GPU; without it, 128 responses at once on any GPU
        usage_context=UsageContext.LLM_CLASS,
    )
