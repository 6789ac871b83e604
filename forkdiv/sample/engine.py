"""A warm vLLM engine: checkpoints are swapped into it, each swap is proved, and samples are drawn.

A swap is proved by the bits of the weights (`weight_proof`). That an engine computes with all of
its weights is checked once, before its first swap, by its outputs (`output_check`).
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.core.gc_pause import gc_paused
from forkdiv.core.records import Finish
from forkdiv.models.asked import OwnTokenizer, own_tokenizer
from forkdiv.models.checkpoint import Checkpoint, check_tensors, read_config, share_engine
from forkdiv.models.digests import check_digests
from forkdiv.models.perturbed import write_perturbed
from forkdiv.models.prompting import prompt_ids, response_ids
from forkdiv.models.shape import context_length, vocabulary_size
from forkdiv.sample import sample_trees
from forkdiv.sample.engine_settings import (
    EngineSpec,
    engine_arguments,
    sampling_params,
    set_threads,
)
from forkdiv.sample.output_check import OutputCheck, output_check
from forkdiv.sample.sample_sets import SEED_SPACE
from forkdiv.sample.swap_queue import SwapQueue
from forkdiv.sample.token_ids import UnanswerableRequest, check_ids

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

# Of each prompt, for the check of the engine's outputs: some hundred tokens in all.
CHECKED_TOKENS, CHECKED_SEEDS = 48, 2
MAX_CACHED = 64  # tokenizers of checkpoints
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineSample:
    """One sample from the engine; `token_ids` excludes the end token."""

    token_ids: tuple[int, ...]
    text: str
    finish: str


RawSample = tuple[tuple[int, ...], str]  # token ids including the end token, finish reason


class EngineDead(Exception):
    """vLLM's processes ended; a new engine is needed."""


@contextmanager
def _as_dead() -> Iterator[None]:
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineDead(str(error)) from error


class WarmEngine:
    """A running engine. Use it from one event loop only."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.swaps: list[dict[str, Any]] = []
        self._restarting = False
        self.seconds = {"imports": _timed(_import), "start": 0.0}
        started = time.perf_counter()
        self.llm: AsyncLLM = _start(spec)
        self.seconds["start"] = time.perf_counter() - started
        self.vocabulary = vocabulary_size(read_config(spec.shape_of)) or 0
        self._ids: dict[tuple[Checkpoint, str, str], list[int]] = {}
        self._swap_queue = SwapQueue(self._swap)
        self._files: dict[Checkpoint, tuple[tuple[str, int, int], ...]] = {}
        self.outputs: OutputCheck | None = None
        self._finished_tokens = 0
        self._checking = False
        self._own: dict[Checkpoint, OwnTokenizer] = {}
        self._texts: dict[tuple[Checkpoint, tuple[int, ...]], str] = {}

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
            ids = self._prompt_ids(checkpoint, prompt, prefix)
            if decoder.tree_samples:
                drawn = await self._trees(ids, n, seed, decoder, own.ends)
            else:
                params = sampling_params(decoder, n // times, seed, first_index, own.ends)
                final = await self._generate({"prompt_token_ids": ids}, params)
                outputs = sorted(final.outputs, key=lambda output: output.index) * times
                drawn = [(_ids(output), output.finish_reason) for output in outputs]
        if len(drawn) != n:
            raise RuntimeError(f"requested {n} samples, the engine returned {len(drawn)}")
        prefix_ids = tuple(response_ids(own.tokenizer, prefix) if prefix else ())
        return [self._sample_of(checkpoint, ids, finish, prefix_ids) for ids, finish in drawn]

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
        (probe,) = (await self._generate({"prompt_token_ids": prompt}, params)).outputs
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
        final = await self._generate({"prompt_token_ids": [*prompt, *prefix]}, params)
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
        if self._restarting:
            return
        with _as_dead():
            await self.llm.check_health()

    def close(self) -> None:
        self.llm.shutdown()

    def holding(self, checkpoint: Checkpoint) -> AbstractAsyncContextManager[None]:
        """Keeps `checkpoint` loaded for the block; swaps it in and proves the swap if necessary.

        Raises UserError for a checkpoint that cannot be loaded, InvalidResult if the swap fails
        its proof also in a new engine, and EngineDead if vLLM's processes have ended.
        """
        return self._swap_queue.holding(checkpoint)

    async def _swap(self, checkpoint: Checkpoint) -> None:
        self._check_suitable(checkpoint)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, check_digests, checkpoint.path)
        if self.outputs is None:
            drawn, self._checking = self._finished_tokens, True
            try:
                await self._check_outputs()
            finally:
                self._finished_tokens, self._checking = drawn, False
        if not await self._load(checkpoint):
            await self._restart(checkpoint)

    def _check_suitable(self, checkpoint: Checkpoint) -> None:
        """Raises UserError for a checkpoint of another architecture, with other tensors, or whose
        files changed since the first swap; before the engine is changed."""
        if not share_engine(checkpoint.path, self.spec.shape_of):
            raise refuse(
                f"the checkpoint {checkpoint.path} has a different architecture than this engine",
                "a different config.json",
                f"those of {self.spec.shape_of}",
                "use this checkpoint in a separate forkdiv process",
            )
        check_tensors(checkpoint.path, self.spec.shape_of)
        files = tuple(
            (file.name, file.stat().st_size, file.stat().st_mtime_ns)
            for file in sorted(checkpoint.path.glob("*.safetensors"))
        )
        if self._files.setdefault(checkpoint, files) != files:
            raise refuse(
                f"the weights of {checkpoint.path} changed while the engine was running",
                "files of another size or time",
                "the files that were sampled before",
                "start the command again",
            )

    async def _load(self, checkpoint: Checkpoint, restarted: bool = False) -> bool:
        """Swaps the checkpoint in; returns whether every weight has the bits of the files. Raises
        UserError for weights that are not finite."""
        started = time.perf_counter()
        proofs = await self._swap_weights(checkpoint.path)
        problems = _problems(proofs)
        entry = {"checkpoint": checkpoint.fingerprint, "problems": problems}
        entry |= {key: sum(p[key] for p in proofs) for key in ("tensors", "bytes")}
        entry |= {key: max(p[key] for p in proofs) for key in ("load_s", "verify_s")}
        self.swaps.append(
            entry | {"seconds": time.perf_counter() - started, "restarted": restarted}
        )
        not_finite = [name for proof in proofs for name in proof["not_finite"]]
        if not_finite:
            raise refuse(
                f"the checkpoint {checkpoint.path} has weights that are NaN or infinite",
                _first_few(not_finite),
                "finite weights",
                "train or copy the checkpoint again",
            )
        return not problems

    async def _swap_weights(self, path: Path) -> list[dict[str, Any]]:
        """Loads the weights in every worker of the engine; returns the proofs."""
        with _as_dead():
            await self.llm.pause_generation(mode="wait", clear_cache=True)
            proofs: list[dict[str, Any]] = await self.llm.collective_rpc(
                "forkdiv_swap", args=(str(path),)
            )
            await self.llm.resume_generation()
        return proofs

    async def _restart(self, checkpoint: Checkpoint) -> None:
        """Loads `checkpoint` into a new engine, because the old engine cannot be trusted."""
        log.warning(
            "after the swap to %s the engine does not have the weights of its files (%s); "
            "restarting the engine",
            checkpoint.path,
            _first_few(self.swaps[-1]["problems"]),
        )
        spec = replace(self.spec, shape_of=checkpoint.path)
        self._restarting = True
        try:
            self.llm.shutdown()
            self.llm = await asyncio.get_running_loop().run_in_executor(None, _start, spec)
        finally:
            self._restarting = False
        if not await self._load(checkpoint, restarted=True):
            raise InvalidResult(
                f"the engine does not have the weights of {checkpoint.path}, also after a restart: "
                f"got {_first_few(self.swaps[-1]['problems'])}; allowed: the bits of the files, "
                f"cast to {self.spec.dtype}; check that vLLM supports this architecture"
            )

    async def _check_outputs(self) -> None:
        """Checks that the engine computes with all of its weights, by its outputs before and after
        a swap to strongly changed weights. Raises InvalidResult if it does not."""
        shape_of = self.spec.shape_of
        loop = asyncio.get_running_loop()
        # of the first checkpoint as the engine loaded it itself; later swaps replace all of it
        sequences = await self._checked_sequences()
        before = await self._token_logprobs(sequences)
        with tempfile.TemporaryDirectory(prefix="forkdiv-") as folder:
            changed = Path(folder) / "changed"
            await loop.run_in_executor(None, write_perturbed, shape_of, changed)
            proofs = await self._swap_weights(changed)
            if problems := _problems(proofs):
                # not by its outputs: a packed copy that was not loaded would end the engine
                raise InvalidResult(
                    f"a swap does not load every weight: {_first_few(problems)}; check that vLLM "
                    f"supports the architecture of {shape_of}"
                )
            after = await self._token_logprobs(sequences)
            wanted, wanted_after = [
                await loop.run_in_executor(None, _reference, path, sequences, self.spec.dtype)
                for path in (shape_of, changed)
            ]
        found = output_check(before, after, wanted, wanted_after)
        if found.problems:
            raise InvalidResult(
                f"vLLM does not compute {shape_of} as transformers does: "
                f"{'; '.join(found.problems)} ({found.tokens} tokens); check that vLLM supports "
                "this architecture"
            )
        self.outputs = found

    async def _checked_sequences(self) -> list[list[int]]:
        """Returns prompts with sampled continuations, within the model's context."""
        from vllm import SamplingParams

        context = context_length(read_config(self.spec.shape_of)) or CHECKED_TOKENS * 4
        length = max(1, min(CHECKED_TOKENS, context // 2))
        sequences = []
        for prompt in self.spec.proof_prompts:
            start = list(prompt)[: max(1, context - length - 1)]
            for seed in range(CHECKED_SEEDS):
                how = SamplingParams(
                    max_tokens=length, temperature=1.0, seed=seed, ignore_eos=True, detokenize=False
                )
                final = await self._generate({"prompt_token_ids": start}, how)
                sequences.append(start + list(_ids(final.outputs[0])))
        return sequences

    async def _token_logprobs(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the engine's log-probability of every token but the first of each sequence."""
        from vllm import SamplingParams

        how = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        found = []
        for ids in sequences:
            final = await self._generate({"prompt_token_ids": list(ids)}, how)
            tokens = zip(ids[1:], final.prompt_logprobs[1:], strict=True)
            found += [entries[token].logprob for token, entries in tokens]
        return np.array(found)

    async def _generate(self, prompt: Any, parameters: Any) -> Any:
        from vllm.exceptions import VLLMClientError

        check_ids(prompt["prompt_token_ids"], self.vocabulary, "the prompt")
        final = None
        try:
            with _as_dead():
                async for output in self.llm.generate(prompt, parameters, uuid.uuid4().hex):
                    final = output
        except (VLLMClientError, ValueError) as error:
            raise UnanswerableRequest(str(error)) from error
        assert final is not None and final.finished
        self._finished_tokens += sum(len(output.token_ids) for output in final.outputs)
        return final

    @property
    def tokens_drawn(self) -> int:
        """The number of tokens drawn for requests, those of unfinished responses included."""
        if self._checking:
            return 0
        running: Any = self.llm.output_processor.request_states.values()
        detokenizers = [state.detokenizer for state in running if state.detokenizer]
        unfinished = sum(int(one.num_output_tokens()) for one in detokenizers)
        return self._finished_tokens + unfinished

    def own_tokenizer(self, checkpoint: Checkpoint) -> OwnTokenizer:
        """Returns the tokenizer and the end tokens of the checkpoint."""
        if checkpoint not in self._own:
            if len(self._own) >= MAX_CACHED:
                self._own.pop(next(iter(self._own)))
            self._own[checkpoint] = own_tokenizer(checkpoint.path)
        return self._own[checkpoint]

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


def _problems(proofs: Sequence[dict[str, Any]]) -> list[str]:
    """Returns what is wrong in any worker of the engine."""
    return list(dict.fromkeys(problem for proof in proofs for problem in proof["problems"]))


def _first_few(names: Sequence[str], most: int = 3) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


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


def _reference(path: Path, sequences: Sequence[Sequence[int]], dtype: str) -> np.ndarray:
    from forkdiv.models.loading import sequence_logprobs

    return sequence_logprobs(path, sequences, dtype)
