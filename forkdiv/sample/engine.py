"""One warm vLLM engine: checkpoints are swapped into it, proved, and sampled.

The proof of a swap never takes the engine's word: its next-token log-probabilities on fixed
prompts must equal those of a transformers forward pass over the saved files.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.errors import InvalidResult, UserError, refuse
from forkdiv.core.gc_pause import gc_paused
from forkdiv.core.records import Finish
from forkdiv.models.checkpoint import Checkpoint, check_tensors, read_config, share_engine
from forkdiv.sample import sample_trees
from forkdiv.sample.engine_settings import EngineSpec, engine_arguments, parameters, set_threads
from forkdiv.sample.sample_sets import SEED_SPACE
from forkdiv.sample.swap_queue import Turns

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

# Largest accepted difference of a log-probability, over tokens of at least 1e-6. In float32
# the two agree to about 1e-5, and an unmended swap between trained checkpoints is off by 1 and
# more. The bfloat16 limit is a guess from its 8 bits, not measured, and blunter than it should
# be: checkpoints closer than it are not told apart.
PROOF_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2}
PROOF_FLOOR = math.log(1e-6)
# Checkpoints whose log-probabilities are kept: reading them from the files is most of a swap's
# time, and a file that changed under its name then fails the proof.
MOST_KNOWN = 64
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampled:
    """One response out of the engine."""

    token_ids: tuple[int, ...]
    text: str
    finish: str


Drawn = tuple[tuple[int, ...], str]  # token ids, the end token among them, and the finish


class Unanswerable(Exception):
    """vLLM refuses the request itself: too long a prompt, say."""


class EngineDead(Exception):
    """vLLM's processes are gone; only another engine can answer."""


@contextmanager
def _as_dead() -> Iterator[None]:
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineDead(str(error)) from error


class WarmEngine:
    """A started engine. All methods belong to one event loop."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.swaps: list[dict[str, Any]] = []
        self._restarting = False
        self.seconds = {"imports": _timed(_import), "start": 0.0}
        started = time.perf_counter()
        self.llm: AsyncLLM = _start(spec)
        self.seconds["start"] = time.perf_counter() - started
        self._tokenizer = _tokenizer(spec.shape_of)
        self._vocabulary = int(read_config(spec.shape_of)["vocab_size"])
        self._ids: dict[tuple[str, str], list[int]] = {}
        self._turns = Turns(self._swap)
        self._known: dict[Checkpoint, Sequence[np.ndarray]] = {}
        self._texts: dict[tuple[int, ...], str] = {}

    async def sample(
        self,
        checkpoint: Checkpoint,
        prompt: str,
        n: int,
        seed: int,
        decoder: DecoderConfig,
        prefix: str = "",
        first_index: int = 0,
    ) -> list[Sampled]:
        """`n` responses to `prompt` from `checkpoint`; response i is drawn with seed + i. They
        go on from `prefix`, the beginning of a response, which is not in what is returned. The
        first is sample `first_index` of its problem, which decides its stratum.

        At temperature 0 all are the one greedy response, which vLLM gives once only.

        Raises UserError for more first tokens than the model has tokens, Unanswerable where vLLM
        refuses the request, and what `holding` raises.
        """
        from forkdiv.models.prompting import response_ids

        self._check_vocabulary(decoder)
        times = n if decoder.greedy else 1
        async with self.holding(checkpoint):
            ids = self._prompt_ids(prompt, prefix)
            if decoder.tree_samples:
                drawn = await self._trees(ids, n, seed, decoder)
            else:
                wanted = parameters(decoder, n // times, seed, first_index)
                final = await self._generate({"prompt_token_ids": ids}, wanted)
                outputs = sorted(final.outputs, key=lambda output: output.index) * times
                drawn = [(_ids(output), output.finish_reason) for output in outputs]
        if len(drawn) != n:
            raise RuntimeError(f"asked for {n} samples, the engine returned {len(drawn)}")
        before = tuple(response_ids(self._tokenizer, prefix) if prefix else ())
        return [self._sampled(ids, finish, before) for ids, finish in drawn]

    async def _trees(
        self, prompt: list[int], n: int, seed: int, decoder: DecoderConfig
    ) -> list[Drawn]:
        """`n` samples in whole trees, one tree's after the other's."""
        size = decoder.tree_samples
        if n % size:
            raise InvalidResult(f"asked for {n} samples in trees of {size}")
        starts = range(seed, seed + n, size)
        trees = await asyncio.gather(*(self._tree(prompt, start, decoder) for start in starts))
        return [one for tree in trees for one in tree]

    async def _tree(self, prompt: list[int], seed: int, decoder: DecoderConfig) -> list[Drawn]:
        """One tree: its probe, then what goes on from the branches along it."""
        wanted = parameters(decoder, 1, seed % SEED_SPACE, 0)
        wanted.logprobs = min(sample_trees.LIKELY, self._vocabulary)
        (probe,) = (await self._generate({"prompt_token_ids": prompt}, wanted)).outputs
        ids = _ids(probe)
        likely = [{t: one.logprob for t, one in here.items()} for here in probe.logprobs]
        branches = sample_trees.spread(ids, likely, decoder)
        rest = (
            self._branch(prompt, ids, branch, (seed + i) % SEED_SPACE, decoder)
            for i, branch in enumerate(branches, 1)
        )
        return [(ids, probe.finish_reason), *await asyncio.gather(*rest)]

    async def _branch(
        self,
        prompt: list[int],
        probe: tuple[int, ...],
        branch: sample_trees.Branch,
        seed: int,
        decoder: DecoderConfig,
    ) -> Drawn:
        """A response that leaves the probe at a fork; as long as any other at most."""
        kept = probe[: branch.at] + (() if branch.token is None else (branch.token,))
        if branch.token == self._tokenizer.eos_token_id:
            return kept, "stop"
        wanted = parameters(decoder, 1, seed, 0)
        wanted.max_tokens = decoder.max_new_tokens - len(kept)
        if wanted.max_tokens < 1:
            return kept, "length"
        final = await self._generate({"prompt_token_ids": [*prompt, *kept]}, wanted)
        (output,) = final.outputs
        return kept + _ids(output), output.finish_reason

    def _check_vocabulary(self, decoder: DecoderConfig) -> None:
        """A rank beyond the vocabulary would end vLLM's engine."""
        if decoder.first_tokens > self._vocabulary:
            raise refuse(
                "decoder.first_tokens asks for more first tokens than the model has tokens",
                decoder.first_tokens,
                f"up to {self._vocabulary}",
                "lower it",
            )

    async def alive(self) -> None:
        """Raises EngineDead where the engine's processes are gone."""
        if self._restarting:
            return
        with _as_dead():
            await self.llm.check_health()

    def close(self) -> None:
        self.llm.shutdown()

    def holding(self, checkpoint: Checkpoint) -> AbstractAsyncContextManager[None]:
        """Keep `checkpoint` loaded for the block: swapped in and proved where it is not.

        Raises UserError for a checkpoint that cannot be loaded, InvalidResult where a swap
        cannot be proved, in a fresh engine either, EngineDead where vLLM's processes are gone.
        """
        return self._turns.holding(checkpoint)

    async def _swap(self, checkpoint: Checkpoint) -> None:
        started = time.perf_counter()
        expected = await self._expected(checkpoint)
        with _as_dead():
            await self.llm.pause_generation(mode="wait", clear_cache=True)
            await self.llm.collective_rpc(
                "forkdiv_swap", args=(str(checkpoint.path), self.spec.mend_tied_embeddings)
            )
            await self.llm.resume_generation()
        if not await self._is_proved(checkpoint, expected, started):
            await self._restart(checkpoint, expected)

    async def _expected(self, checkpoint: Checkpoint) -> Sequence[np.ndarray]:
        """What the saved files say about the proof's prompts; a checkpoint that cannot be right
        is refused here, before the engine is touched."""
        if not share_engine(checkpoint.path, self.spec.shape_of):
            raise UserError(
                f"the checkpoint {checkpoint.path} has another architecture or tokenizer than "
                f"this engine: got its config.json; allowed: that of {self.spec.shape_of}; "
                f"start a sampler for its shape"
            )
        check_tensors(checkpoint.path, self.spec.shape_of)
        if checkpoint in self._known:
            return self._known[checkpoint]
        expected = await asyncio.get_running_loop().run_in_executor(
            None, _expected, checkpoint.path, self.spec.proof_prompts, self.spec.dtype
        )
        if any(np.isnan(one).any() for one in expected):
            raise refuse(
                f"the checkpoint {checkpoint.path} gives no probabilities",
                "NaN",
                "weights that are numbers",
                "train or copy it again",
            )
        if len(self._known) >= MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[checkpoint] = expected
        return expected

    async def _is_proved(
        self,
        checkpoint: Checkpoint,
        expected: Sequence[np.ndarray],
        started: float,
        restarted: bool = False,
    ) -> bool:
        error = await self._proof_error(expected)
        seconds = time.perf_counter() - started
        entry = {"checkpoint": checkpoint.fingerprint, "error": error, "seconds": seconds}
        self.swaps.append(entry | {"restarted": restarted})
        return error <= PROOF_TOLERANCE[self.spec.dtype]  # NaN is not

    async def _restart(self, checkpoint: Checkpoint, expected: Sequence[np.ndarray]) -> None:
        """Load `checkpoint` into a fresh engine, since the one that was there cannot be trusted."""
        error = self.swaps[-1]["error"]
        log.warning(
            "the swap to %s is not proved (log-probabilities off by %.3g, allowed %g): "
            "the engine restarts",
            checkpoint.path,
            error,
            PROOF_TOLERANCE[self.spec.dtype],
        )
        started = time.perf_counter()
        fresh = replace(self.spec, shape_of=checkpoint.path)
        self._restarting = True
        try:
            self.llm.shutdown()
            self.llm = await asyncio.get_running_loop().run_in_executor(None, _start, fresh)
        finally:
            self._restarting = False
        if not await self._is_proved(checkpoint, expected, started, restarted=True):
            raise InvalidResult(
                f"the swap to {checkpoint.path} is not proved, in a fresh engine either: the "
                f"engine's log-probabilities differ from the saved files' by "
                f"{self.swaps[-1]['error']:.3g}, allowed {PROOF_TOLERANCE[self.spec.dtype]:g}"
            )

    async def _proof_error(self, expected: Sequence[np.ndarray]) -> float:
        from vllm import SamplingParams

        parameters = SamplingParams(max_tokens=1, temperature=0.0, logprobs=-1, detokenize=False)
        worst = 0.0
        for prompt, want in zip(self.spec.proof_prompts, expected, strict=True):
            final = await self._generate({"prompt_token_ids": list(prompt)}, parameters)
            entries = final.outputs[0].logprobs[0]
            got = np.array([entries[token].logprob for token in range(len(want))])
            likely = want > PROOF_FLOOR
            difference = np.abs(got[likely] - want[likely])
            # weights that are not numbers make no token likely, and must not pass for that
            broken = np.isnan(want).any() or np.isnan(got).any()
            worst = math.nan if broken else max(worst, float(difference.max()))
            if broken:
                break
        return worst

    async def _generate(self, prompt: Any, parameters: Any) -> Any:
        from vllm.exceptions import VLLMClientError

        final = None
        try:
            with _as_dead():
                async for output in self.llm.generate(prompt, parameters, uuid.uuid4().hex):
                    final = output
        except (VLLMClientError, ValueError) as error:
            raise Unanswerable(str(error)) from error
        assert final is not None and final.finished
        return final

    def _prompt_ids(self, prompt: str, prefix: str) -> list[int]:
        """Kept: every checkpoint and decoder of a study asks with the same prompts."""
        from forkdiv.models.prompting import prompt_ids

        if len(self._ids) > 100_000:
            self._ids.clear()
        key = (prompt, prefix)
        if key not in self._ids:
            self._ids[key] = prompt_ids(self._tokenizer, prompt, self.spec.prompt, prefix)
        return self._ids[key]

    def _sampled(self, ids: tuple[int, ...], finish: str, before: tuple[int, ...]) -> Sampled:
        if finish not in (Finish.STOP, Finish.LENGTH):
            raise RuntimeError(f"the engine gave up on a sample: {finish}")
        if finish == "stop" and ids and ids[-1] == self._tokenizer.eos_token_id:
            ids = ids[:-1]
        # as the text goes on after its prefix: whether a space stands between is the tokenizer's
        text = self._text(before + ids)
        if before:
            text = text.removeprefix(self._text(before))
        return Sampled(ids, text, finish)

    def _text(self, ids: tuple[int, ...]) -> str:
        if ids not in self._texts:
            if len(self._texts) > 100_000:
                self._texts.clear()
            # special tokens stay visible: a response with one in it must not read as correct
            self._texts[ids] = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return self._texts[ids]


def _ids(output: Any) -> tuple[int, ...]:
    return tuple(output.token_ids)


def _import() -> None:
    with gc_paused():
        import vllm.v1.engine.async_llm  # noqa: F401


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _start(spec: EngineSpec) -> AsyncLLM:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    set_threads(spec)
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(**engine_arguments(spec), enable_log_requests=False)
    )


def _tokenizer(path: Path) -> Any:
    """Loaded as training loads it, so that both turn a prompt into the same ids."""
    from forkdiv.models.loading import load_tokenizer

    return load_tokenizer(path)


def _expected(path: Path, prompts: Sequence[Sequence[int]], dtype: str) -> list[np.ndarray]:
    from forkdiv.models.loading import next_token_logprobs

    return next_token_logprobs(path, prompts, dtype)
