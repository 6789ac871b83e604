"""The weights of an engine: checkpoints are swapped into it, and each swap is proved.

A swap is proved by the bits of the weights (`weight_proof`). That an engine computes with all of
its weights is checked once, before its first swap, by its outputs (`output_check`).
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from forkdiv.core.errors import InvalidResult, refuse
from forkdiv.models.checkpoint import Checkpoint, check_tensors, read_config, share_engine
from forkdiv.models.digests import check_digests
from forkdiv.models.perturbed import write_perturbed
from forkdiv.models.shape import context_length
from forkdiv.sample.output_check import Floats, OutputCheck, is_as_before, output_check
from forkdiv.sample.vllm_engine import VllmEngine

# Of each prompt, for the check of the engine's outputs: some hundred tokens in all.
CHECKED_TOKENS, CHECKED_SEEDS = 48, 2
log = logging.getLogger(__name__)


class ProvedWeights:
    """Swaps checkpoints into `engine`. `swaps` has an entry for each swap to a checkpoint;
    `outputs` is the check of the engine's outputs, None before it was made."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine, self._shape_of = engine, engine.spec.shape_of
        self.swaps: list[dict[str, Any]] = []
        self.outputs: OutputCheck | None = None
        self._files: dict[Checkpoint, tuple[tuple[str, int, int], ...]] = {}
        # of the check: its sequences, and their log-probabilities with the first checkpoint
        self._checked: tuple[list[list[int]], Floats] | None = None
        self._brought: Path | None = None  # the checkpoint that was copied last
        self.checks = False  # whether a check of outputs is running

    async def swap(self, checkpoint: Checkpoint) -> None:
        """Loads the checkpoint and proves it, in a new engine if the proof fails.

        Raises UserError for a checkpoint that cannot be loaded, InvalidResult if the proof fails
        in a new engine too or the engine does not compute with its weights, and EngineDead.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._bring, checkpoint)
        self._check_suitable(checkpoint)
        await loop.run_in_executor(None, check_digests, checkpoint.path)
        if self.outputs is None:
            with self._checking():
                self.outputs = await self._checked_outputs()
        if await self._load(checkpoint):
            return
        log.warning(
            "after the swap to %s the engine does not have the weights of its files (%s); "
            "restarting the engine",
            checkpoint.path,
            _first_few(self.swaps[-1]["problems"]),
        )
        await self._engine.restart(checkpoint.path)
        if not await self._load(checkpoint, restarted=True):
            raise InvalidResult(
                f"the engine does not have the weights of {checkpoint.path}, also after a restart: "
                f"got {_first_few(self.swaps[-1]['problems'])}; allowed: the bits of the files, "
                f"cast to {self._engine.spec.dtype}; check that vLLM supports this architecture"
            )

    def _bring(self, checkpoint: Checkpoint) -> None:
        """Copies weights that are on S3-compatible storage to this machine; those of the checkpoint
        before may be removed again."""
        if (store := self._engine.spec.store) is None:
            return
        if self._brought not in (None, self._shape_of):
            store.unused(self._brought)
        # again that of the engine: it may be of the same run, and is needed when vLLM starts again
        store.whole(self._shape_of)
        self._brought = store.whole(checkpoint.path)

    async def check_again(self) -> None:
        """Checks that an engine that was asleep, or is new, computes as the engine did before; if
        not, replaces it by a new one, whose outputs are checked before its first swap.

        A swap loads weights only. Other tensors that vLLM lost, it must have restored itself.
        """
        if self.outputs is None or self._checked is None:
            return
        sequences, before = self._checked
        problem = "its outputs are others with the same weights"
        with self._checking():
            try:
                await self._swap_for_check(self._shape_of)
                if is_as_before(before, await self._token_logprobs(sequences), self.outputs):
                    return
            except InvalidResult as error:
                problem = str(error)
        log.warning("the engine is not as it was before training (%s); starting a new one", problem)
        self.outputs = self._checked = None
        await self._engine.restart(self._shape_of)

    @contextmanager
    def _checking(self) -> Iterator[None]:
        self.checks = True
        try:
            yield
        finally:
            self.checks = False

    def _check_suitable(self, checkpoint: Checkpoint) -> None:
        """Raises UserError for a checkpoint of another architecture, with other tensors, or whose
        files changed since the first swap; before the engine is changed."""
        if not share_engine(checkpoint.path, self._shape_of):
            raise refuse(
                f"the checkpoint {checkpoint.path} has a different architecture than this engine",
                "a different config.json",
                f"those of {self._shape_of}",
                "use this checkpoint in a separate forkdiv process",
            )
        check_tensors(checkpoint.path, self._shape_of)
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
        """Swaps the checkpoint in; returns whether every weight has the bits of the files."""
        started = time.perf_counter()
        proofs = await self._engine.swap(checkpoint.path)
        problems = _problems(proofs)
        entry = {"checkpoint": checkpoint.fingerprint, "problems": problems}
        entry |= {key: sum(p[key] for p in proofs) for key in ("tensors", "bytes")}
        entry |= {key: max(p[key] for p in proofs) for key in ("load_s", "verify_s")}
        seconds = time.perf_counter() - started
        self.swaps.append(entry | {"seconds": seconds, "restarted": restarted})
        _check_finite(checkpoint.path, proofs)
        return not problems

    async def _checked_outputs(self) -> OutputCheck:
        """Checks that the engine computes with all of its weights, by its outputs before and after
        a swap to strongly changed weights. Raises InvalidResult if it does not."""
        loop, shape_of = asyncio.get_running_loop(), self._shape_of
        # an earlier check may have been interrupted: the engine then has the changed weights
        await self._swap_for_check(shape_of)
        sequences = await self._sequences()
        before = await self._token_logprobs(sequences)
        with tempfile.TemporaryDirectory(prefix="forkdiv-") as folder:
            changed = Path(folder) / "changed"
            await loop.run_in_executor(None, _write_changed, shape_of, changed)
            await self._swap_for_check(changed)
            after = await self._token_logprobs(sequences)
            wanted, wanted_after = [
                await loop.run_in_executor(
                    None, _reference, path, sequences, self._engine.spec.dtype
                )
                for path in (shape_of, changed)
            ]
        self._checked = sequences, before
        found = output_check(before, after, wanted, wanted_after)
        if found.problems:
            raise InvalidResult(
                f"vLLM does not compute {shape_of} as transformers does: "
                f"{'; '.join(found.problems)} ({found.tokens} tokens); check that vLLM supports "
                "this architecture"
            )
        return found

    async def _swap_for_check(self, path: Path) -> None:
        """Raises InvalidResult if a swap does not load every weight: not left to the check of
        outputs, since a packed copy that was not loaded would end the engine."""
        proofs = await self._engine.swap(path)
        _check_finite(path, proofs)
        if problems := _problems(proofs):
            raise InvalidResult(
                f"a swap does not load every weight: {_first_few(problems)}; check that vLLM "
                f"supports the architecture of {self._shape_of}"
            )

    async def _sequences(self) -> list[list[int]]:
        """Returns prompts with sampled continuations, within the model's context."""
        from vllm import SamplingParams

        context = context_length(read_config(self._shape_of)) or CHECKED_TOKENS * 4
        length = max(1, min(CHECKED_TOKENS, context // 2))
        sequences = []
        for prompt in self._engine.spec.proof_prompts:
            start = list(prompt)[: max(1, context - length - 1)]
            for seed in range(CHECKED_SEEDS):
                how = SamplingParams(
                    max_tokens=length, temperature=1.0, seed=seed, ignore_eos=True, detokenize=False
                )
                final = await self._engine.generate(start, how)
                sequences.append([*start, *final.outputs[0].token_ids])
        return sequences

    async def _token_logprobs(self, sequences: Sequence[list[int]]) -> Floats:
        """Returns the engine's log-probability of every token but the first of each sequence."""
        from vllm import SamplingParams

        how = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        found: list[float] = []
        for ids in sequences:
            final = await self._engine.generate(ids, how)
            tokens = zip(ids[1:], final.prompt_logprobs[1:], strict=True)
            found += [entries[token].logprob for token, entries in tokens]
        return np.array(found)


def _write_changed(shape_of: Path, changed: Path) -> None:
    """Raises UserError if the temporary folder has no room."""
    try:
        write_perturbed(shape_of, changed)
    except OSError as error:
        raise refuse(
            "the engine's outputs cannot be checked: there is no room for changed weights",
            error,
            f"as much room in {tempfile.gettempdir()} as {shape_of} takes",
            "make room, or set TMPDIR to another folder",
        ) from error


def _reference(path: Path, sequences: Sequence[Sequence[int]], dtype: str) -> Floats:
    from forkdiv.models.loading import sequence_logprobs

    return sequence_logprobs(path, sequences, dtype)


def _check_finite(path: Path, proofs: Sequence[dict[str, Any]]) -> None:
    """Raises UserError for weights that are not finite."""
    names = [name for proof in proofs for name in proof["not_finite"]]
    if names:
        raise refuse(
            f"the checkpoint {path} has weights that are NaN or infinite",
            _first_few(names),
            "finite weights",
            "train or copy the checkpoint again",
        )


def _problems(proofs: Sequence[dict[str, Any]]) -> list[str]:
    """Returns what is wrong in any worker of the engine."""
    return list(dict.fromkeys(problem for proof in proofs for problem in proof["problems"]))


def _first_few(names: Sequence[str], most: int = 3) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
