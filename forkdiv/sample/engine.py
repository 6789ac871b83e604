"""A warm engine: samples are drawn from the checkpoint that a request names.

Which weights the engine has, and how a swap is proved, is in `proved_weights`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.records import Finish
from forkdiv.models.asked import OwnTokenizer, own_tokenizer
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.prompting import prompt_ids, response_ids
from forkdiv.sample import sample_trees
from forkdiv.sample.engine_settings import EngineSpec, sampling_params
from forkdiv.sample.engine_tokenizer import set_tokenizer
from forkdiv.sample.proved_weights import ProvedWeights
from forkdiv.sample.sample_sets import SEED_SPACE
from forkdiv.sample.swap_queue import SwapQueue
from forkdiv.sample.turns import EngineTurns
from forkdiv.sample.vllm_engine import State, VllmEngine

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

MAX_CACHED = 64  # tokenizers of checkpoints


@dataclass(frozen=True)
class EngineSample:
    """One sample from the engine; `token_ids` excludes the end token."""

    token_ids: tuple[int, ...]
    text: str
    finish: str


@dataclass(frozen=True)
class EngineRollouts:
    """The fields of `sample_sets.Rollouts` besides its request."""

    prompt_ids: tuple[int, ...]
    samples: list[tuple[tuple[int, ...], str, str]]
    logprobs: list[tuple[float, ...]]
    waited_s: float


RawSample = tuple[tuple[int, ...], str]  # token ids including the end token, finish reason


class WarmEngine:
    """An engine that answers requests. Use it from one event loop only. If it takes turns with
    training, `training` says whether a model is being trained; the engine runs only while not."""

    def __init__(
        self, spec: EngineSpec, training: Callable[[], Awaitable[bool]] | None = None
    ) -> None:
        self.spec = spec
        self._engine = VllmEngine(spec)
        self.weights = ProvedWeights(self._engine)
        self._swap_queue = SwapQueue(self.weights.swap)
        self._turns = EngineTurns(self._engine, self.weights, self._swap_queue, training)
        self._finished_tokens = 0
        self._ids: dict[tuple[Checkpoint, str, str], list[int]] = {}
        self._own: dict[Checkpoint, OwnTokenizer] = {}
        self._tokenizer_in_use: tuple[AsyncLLM, OwnTokenizer] | None = None
        self._texts: dict[tuple[Checkpoint, tuple[int, ...]], str] = {}

    @property
    def llm(self) -> AsyncLLM:
        """vLLM's engine; another one after a restart."""
        return self._engine.llm

    @property
    def vocabulary(self) -> int:
        """The number of token ids of the model."""
        return self._engine.vocabulary

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of the start: vLLM's imports, and the engine itself."""
        return self._engine.seconds

    @property
    def tokens_drawn(self) -> int | None:
        """The number of tokens drawn for samples, those of unfinished responses included; None
        before the engine runs, and while its outputs are checked."""
        if self._engine.state != "running" or self.weights.checks:
            return None
        return self._finished_tokens + self._engine.unfinished_tokens

    async def sample(
        self,
        checkpoint: Checkpoint,
        prompt: str,
        n: int,
        seed: int,
        decoder: DecoderConfig,
        prefix: str = "",
        first_index: int = 0,
    ) -> list[EngineSample]:
        """Draws `n` samples for `prompt` from `checkpoint`; sample i is drawn with seed + i. They
        continue `prefix`, the beginning of a response, which is not part of the result. The first
        is sample `first_index` of its problem, which decides its stratum.

        The prompt is encoded with the checkpoint's own tokenizer and chat template, and a sample
        stops at any end token that the checkpoint names.

        At temperature 0 all samples are the greedy response, which is generated once.

        Raises UserError if decoder.first_tokens exceeds the vocabulary, UnanswerableRequest if vLLM
        rejects the request, and the errors of `holding`.
        """
        self._check_vocabulary(decoder)
        times = n if decoder.greedy else 1
        async with self.holding(checkpoint):
            own = self.own_tokenizer(checkpoint)
            if decoder.stop:  # vLLM looks for these texts in what it decodes
                self.use_tokenizer_of(checkpoint)
            ids = self._prompt_ids(checkpoint, prompt, prefix)
            if decoder.tree_samples:
                drawn = await self._trees(ids, n, seed, decoder, own.ends)
            else:
                params = sampling_params(decoder, n // times, seed, first_index, own.ends)
                final = await self._generate(ids, params)
                outputs = sorted(final.outputs, key=lambda output: output.index) * times
                drawn = [(_ids(output), output.finish_reason) for output in outputs]
        if len(drawn) != n:
            raise RuntimeError(f"requested {n} samples, the engine returned {len(drawn)}")
        prefix_ids = tuple(response_ids(own.tokenizer, prefix) if prefix else ())
        samples = [self._sample_of(checkpoint, ids, finish, prefix_ids) for ids, finish in drawn]
        return [replace(sample, text=decoder.before_stop(sample.text)) for sample in samples]

    async def rollouts(
        self, checkpoint: Checkpoint, prompt: str, n: int, seed: int, decoder: DecoderConfig
    ) -> EngineRollouts:
        """Draws `n` samples as `sample` does, of a decoder with independent samples, and returns
        them with their end tokens and log-probabilities."""
        asked = time.perf_counter()
        async with self.holding(checkpoint):
            waited = time.perf_counter() - asked
            own = self.own_tokenizer(checkpoint)
            if decoder.stop:
                self.use_tokenizer_of(checkpoint)
            # not kept: each iteration of a training has another checkpoint
            ids = prompt_ids(own.tokenizer, prompt, self.spec.prompt)
            params = sampling_params(decoder, n, seed, 0, own.ends)
            params.logprobs = 0  # only of the sampled token
            final = await self._generate(ids, params)
        outputs = sorted(final.outputs, key=lambda output: output.index)
        if len(outputs) != n:
            raise RuntimeError(f"requested {n} samples, the engine returned {len(outputs)}")
        samples, logprobs = [], []
        for output in outputs:
            token_ids = _ids(output)
            text_ids = token_ids[:-1] if token_ids and token_ids[-1] in own.ends else token_ids
            text = own.tokenizer.decode(list(text_ids), skip_special_tokens=False)
            samples.append((token_ids, decoder.before_stop(text), output.finish_reason))
            entries = zip(token_ids, output.logprobs, strict=True)
            logprobs.append(tuple(entry[token].logprob for token, entry in entries))
        return EngineRollouts(tuple(ids), samples, logprobs, waited)

    async def _trees(
        self, prompt: list[int], n: int, seed: int, decoder: DecoderConfig, ends: Sequence[int]
    ) -> list[RawSample]:
        """Draws `n` samples in whole trees, tree by tree."""
        size = decoder.tree_samples
        if n % size:
            raise InvalidResult(f"requested {n} samples, not a multiple of the tree size {size}")
        starts = range(seed, seed + n, size)
        trees = await asyncio.gather(
            *(self._tree(prompt, start, decoder, ends) for start in starts)
        )
        return [sample for tree in trees for sample in tree]

    async def _tree(
        self, prompt: list[int], seed: int, decoder: DecoderConfig, ends: Sequence[int]
    ) -> list[RawSample]:
        """Draws one tree: its probe, then samples that continue the branches along the probe."""
        params = sampling_params(decoder, 1, seed % SEED_SPACE, 0, ends)
        params.logprobs = min(sample_trees.TOP_TOKENS, self.vocabulary)
        (probe,) = (await self._generate(prompt, params)).outputs
        ids = _ids(probe)
        likely = [
            {token: entry.logprob for token, entry in entries.items()} for entries in probe.logprobs
        ]
        branches = sample_trees.tree_branches(ids, likely, decoder)
        rest = (
            self._branch(prompt, ids, branch, (seed + i) % SEED_SPACE, decoder, ends)
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
        ends: Sequence[int],
    ) -> RawSample:
        """Draws a sample that continues `branch`; its total length is limited as for any sample."""
        prefix = probe[: branch.at] + (() if branch.token is None else (branch.token,))
        if branch.token in ends:
            return prefix, "stop"
        params = sampling_params(decoder, 1, seed, 0, ends)
        params.max_tokens = decoder.max_new_tokens - len(prefix)
        if params.max_tokens < 1:
            return prefix, "length"
        final = await self._generate([*prompt, *prefix], params)
        (output,) = final.outputs
        return prefix + _ids(output), output.finish_reason

    def _check_vocabulary(self, decoder: DecoderConfig) -> None:
        """Raises UserError for a rank beyond the vocabulary, which would crash vLLM's engine."""
        if decoder.first_tokens > self.vocabulary:
            raise refuse(
                "decoder.first_tokens is larger than the model's vocabulary",
                decoder.first_tokens,
                f"at most {self.vocabulary}",
                "lower decoder.first_tokens",
            )

    async def alive(self) -> None:
        """Raises EngineDead if the engine's processes have ended."""
        await self._engine.alive()

    def close(self) -> None:
        self._engine.close()

    async def free(self) -> State:
        """Frees the engine's memory for a training run, when all requests in flight are answered;
        returns how. Requests then get EngineAsleep until training has ended."""
        return await self._turns.give()

    @asynccontextmanager
    async def holding(self, checkpoint: Checkpoint) -> AsyncIterator[None]:
        """Keeps `checkpoint` loaded for the block; swaps it in and proves the swap if necessary.

        Raises UserError for a checkpoint that cannot be loaded, InvalidResult if the swap fails
        its proof also in a new engine, EngineDead if vLLM's processes have ended, and EngineAsleep
        while training has the engine's memory.
        """
        await self._turns.take()
        async with self._swap_queue.holding(checkpoint):
            yield

    async def _generate(self, ids: list[int], parameters: Any) -> Any:
        final = await self._engine.generate(ids, parameters)
        self._finished_tokens += sum(len(output.token_ids) for output in final.outputs)
        return final

    def own_tokenizer(self, checkpoint: Checkpoint) -> OwnTokenizer:
        """Returns the tokenizer and the end tokens of the checkpoint."""
        if checkpoint not in self._own:
            if len(self._own) >= MAX_CACHED:
                self._own.pop(next(iter(self._own)))
            self._own[checkpoint] = own_tokenizer(checkpoint.path)
        return self._own[checkpoint]

    def use_tokenizer_of(self, checkpoint: Checkpoint) -> None:
        """Makes vLLM decode with the tokenizer of the held checkpoint, unless it does: those of one
        run share it, and a restart replaces the engine."""
        wanted = (self.llm, self.own_tokenizer(checkpoint))
        if wanted != self._tokenizer_in_use:
            set_tokenizer(*wanted)
            self._tokenizer_in_use = wanted

    def _prompt_ids(self, checkpoint: Checkpoint, prompt: str, prefix: str) -> list[int]:
        """Returns the prompt's token ids; cached, since a study samples the same prompts again."""
        if len(self._ids) > 100_000:
            self._ids.clear()
        key = (checkpoint, prompt, prefix)
        if key not in self._ids:
            tokenizer = self.own_tokenizer(checkpoint).tokenizer
            self._ids[key] = prompt_ids(tokenizer, prompt, self.spec.prompt, prefix)
        return self._ids[key]

    def _sample_of(
        self,
        checkpoint: Checkpoint,
        ids: tuple[int, ...],
        finish: str,
        prefix_ids: tuple[int, ...],
    ) -> EngineSample:
        if finish not in (Finish.STOP, Finish.LENGTH):
            raise RuntimeError(f"the engine ended a sample with finish reason {finish!r}")
        if finish == "stop" and ids and ids[-1] in self.own_tokenizer(checkpoint).ends:
            ids = ids[:-1]
        # decoded together with the prefix: the tokenizer decides about a space between the two
        text = self._text(checkpoint, prefix_ids + ids)
        if prefix_ids:
            text = text.removeprefix(self._text(checkpoint, prefix_ids))
        return EngineSample(ids, text, finish)

    def _text(self, checkpoint: Checkpoint, ids: tuple[int, ...]) -> str:
        key = (checkpoint, ids)
        if key not in self._texts:
            if len(self._texts) > 100_000:
                self._texts.clear()
            tokenizer = self.own_tokenizer(checkpoint).tokenizer
            # special tokens are kept: a response that contains one must not be judged correct
            self._texts[key] = tokenizer.decode(list(ids), skip_special_tokens=False)
        return self._texts[key]


def _ids(output: Any) -> tuple[int, ...]:
    return tuple(output.token_ids)
