"""Sample sets: the samples of one checkpoint with one decoder, in a folder of Parquet files.

A set can be extended: each sample is identified by its problem and index, and only missing samples
are drawn. Every sample has its own seed and is stored with all data that is needed to score it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Pace, Progress
from forkdiv.core.records import Completion, Problem
from forkdiv.core.store import Growing, Store, write_text
from forkdiv.models.asked import asked
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import parts
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.pulse import SamplingPulse

# A sampler draws sample i of a request with the request's seed + i. torch's CPU generator uses only
# the low 32 bits of a seed, so seeds must differ in them: 2^20 problems with 4,096 samples each.
SEED_STRIDE = 4096
SEED_SPACE = 2**32
REQUESTS_PER_PART, PART_S = 64, 30.0  # a file is written after so many requests or seconds


@dataclass(frozen=True)
class Request:
    """Requests `n` samples of one problem; sample first_index + i is drawn with seed + i. With a
    tree decoder, `n` is a multiple of the tree size. The samples continue `prefix`, the beginning
    of a response, and are returned without it."""

    problem: Problem
    first_index: int
    n: int
    seed: int
    prefix: str = ""


@dataclass(frozen=True)
class Response:
    """The samples of one request, as (token ids, text, finish)."""

    request: Request
    samples: Sequence[tuple[Sequence[int], str, str]]


@dataclass(frozen=True)
class FailedRequest:
    """A request that failed after all retries; its samples do not exist."""

    request: Request
    message: str


class SamplerClient(Protocol):
    """Draws samples from a checkpoint. Yields one result per request, in any order."""

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]: ...

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        """Frees the engine's memory for the training run `name` in the block; yields how."""

    def tokens_drawn(self) -> int | None:
        """Returns the number of tokens that the engines have drawn so far, those of unfinished
        responses included; None if they do not say."""


@dataclass(frozen=True)
class SampleSet:
    """The stored samples of one checkpoint with one decoder. `failed` are the requests that failed,
    and `drawn` is the number of samples drawn, in the call that returned this object."""

    identity: Identity
    path: Path
    failed: tuple[FailedRequest, ...] = ()
    drawn: int = 0

    def completions(
        self, problems: Sequence[Problem], n: int, files: Iterable[Path] | None = None
    ) -> Iterator[Completion]:
        """Yields the first `n` samples of each problem in file order, without their token ids.
        `files` are the files with samples of these problems; all files by default.

        Raises InvalidResult if a sample is stored twice, and, at the end, if a sample is missing
        that does not belong to a failed request.
        """
        remaining = {problem.id: (1 << n) - 1 for problem in problems}  # index i is bit i
        for part in sorted(self.parts if files is None else files):
            for row, sample in parts.completions(part, pa.array(remaining, pa.string()), n):
                id, index = sample.problem_id, sample.sample_index
                if not remaining[id] & 1 << index:
                    raise InvalidResult(
                        f"sample {index} of problem {id} is stored twice: "
                        f"again in row {row} of {part}; remove that file and run again"
                    )
                remaining[id] ^= 1 << index
                yield sample
        for failure in self.failed:
            request = failure.request
            remaining[request.problem.id] &= ~(((1 << request.n) - 1) << request.first_index)
        missing = [f"{id} ({left.bit_count()})" for id, left in remaining.items() if left]
        if missing:
            raise InvalidResult(
                f"samples of {len(missing)} problems are missing in {self.path}: "
                f"{', '.join(missing[:5])}{' …' if missing[5:] else ''}; run again to draw them"
            )

    def portions(self, n: int) -> Callable[[Sequence[Problem]], Iterator[Completion]]:
        """Returns a function like `completions` that opens only the files with samples of the
        problems that it is called with."""
        parts_of: dict[str, list[Path]] = {}
        for part in self.parts:
            for id in parts.problem_ids(part):
                parts_of.setdefault(id, []).append(part)

        def completions(problems: Sequence[Problem]) -> Iterator[Completion]:
            files = {part for problem in problems for part in parts_of.get(problem.id, ())}
            return self.completions(problems, n, files)

        return completions

    @property
    def parts(self) -> list[Path]:
        """The existing Parquet files."""
        return list(parts.files(self.path))

    def require_complete(self) -> None:
        """Raises InvalidResult if requests failed."""
        if self.failed:
            samples = sum(failure.request.n for failure in self.failed)
            raise InvalidResult(
                f"{samples} samples failed: {self.failed[0].message}; correct the cause and run "
                "the same command again (samples that were drawn are kept)"
            )

    def stored_indices(self) -> dict[str, int]:
        """Returns the indices of the stored samples by problem id, as an integer in which index i
        is bit i."""
        stored: dict[str, int] = {}
        for part in self.parts:
            for problem_id, index in parts.indices(part):
                stored[problem_id] = stored.get(problem_id, 0) | 1 << index
        return stored


def identity(evaluation: Evaluation, checkpoint: Checkpoint) -> Identity:
    """Returns the identity of the sample set. The numbers of problems and samples are not part of
    it, because more of them extend the same set.

    It has the token ids that the checkpoint reads for the first problems, and the ids at which it
    stops: they also depend on the release of transformers and on the date that a chat template
    writes. They are null for a checkpoint that does not exist, which has no samples.
    """
    config = evaluation.config
    knobs: dict[str, object] = {
        "task": evaluation.task.identity(),
        "split": config.split,
        "seed": config.seed,
        "decoder": evaluation.decoder,
        "prompt": evaluation.prompt,
        "prompt_ids": None,
        "stop_ids": None,
        **evaluation.shots.identity(),
    }
    if folder := checkpoint.token_files:
        seen = asked(folder, evaluation.probes, evaluation.prompt)
        knobs |= {"prompt_ids": seen.prompts, "stop_ids": seen.stop_ids}
    return Identity("samples", knobs, {"checkpoint": checkpoint.fingerprint})


def planned(store: Store, evaluation: Evaluation, checkpoint: Checkpoint) -> SampleSet:
    """Returns the sample set, which may be empty or not exist yet."""
    set_identity = identity(evaluation, checkpoint)
    return SampleSet(set_identity, store.grown(set_identity))


def obtain(
    store: Store,
    evaluation: Evaluation,
    checkpoint: Checkpoint,
    sampler: SamplerClient,
    progress: Progress,
    per_problem: Sequence[int] = (),
) -> SampleSet:
    """Returns the sample set after drawing the samples that are missing. `per_problem` is the
    number of samples of each problem; by default eval.samples.

    Raises InvalidResult if a number is not a multiple of the tree size, and if a stored tree is
    incomplete.
    """
    problems, decoder = evaluation.asked_problems, evaluation.decoder
    per_problem = per_problem or [evaluation.config.samples] * len(problems)
    for n in per_problem:
        if n % decoder.unit:
            raise InvalidResult(
                f"the number of samples per problem does not fit the decoder: got {n}; allowed: "
                f"a multiple of decoder.tree_samples={decoder.unit}; change eval.samples"
            )
    set_identity = identity(evaluation, checkpoint)
    with store.growing(set_identity, progress) as growing:
        path = growing.path
        samples = SampleSet(set_identity, path)
        for stale in path.glob(".part-*"):
            stale.unlink()
        requests = list(_missing(samples, problems, per_problem, decoder.unit))
        if not (path / "identity.json").exists():
            write_text(path / "identity.json", json.dumps(set_identity.describe(), indent=1))
        if requests:
            drawn, failed = _draw(growing, requests, checkpoint, decoder, sampler, progress)
            samples = replace(samples, failed=failed, drawn=drawn)
    return samples


def _draw(
    samples: Growing,
    requests: list[Request],
    checkpoint: Checkpoint,
    decoder: DecoderConfig,
    sampler: SamplerClient,
    progress: Progress,
) -> tuple[int, tuple[FailedRequest, ...]]:
    """Draws and stores samples; returns the number of samples drawn and the failed requests."""
    total = sum(request.n for request in requests)
    progress(f"sampling: {total} samples at temperature {decoder.temperature:g}")
    pace = Pace(total)
    done = 0
    rows: list[dict[str, object]] = []
    waiting = 0
    failed: list[FailedRequest] = []
    pulse = SamplingPulse(sampler, progress, total, decoder.max_new_tokens)
    try:
        for response in pulse.during(sampler.sample(checkpoint, decoder, requests)):
            result = checked(response)
            if isinstance(result, FailedRequest):
                failed.append(result)
                progress(result.message)
                continue
            rows.extend(_rows(result, decoder))
            pulse.finished(len(result.samples))
            waiting += 1
            if waiting == REQUESTS_PER_PART or pace.seconds_since_report > PART_S:
                done += _write_part(samples, rows)
                rows, waiting = [], 0
                pulse.reported()
                progress(f"sampling: {pace.report(done)}")
                progress.measured({"sample/samples_per_s": pace.rate(done)})
    finally:  # also the samples that arrived before the sampler failed
        done += _write_part(samples, rows)
    progress(f"sampling: {pace.report(done)}")
    progress.measured({"sample/samples_per_s": pace.rate(done)})
    return done, tuple(failed)


def checked(result: Response | FailedRequest) -> Response | FailedRequest:
    """Returns the result, or a FailedRequest if it does not have the requested number of
    samples."""
    if isinstance(result, Response) and len(result.samples) != result.request.n:
        message = (
            f"sampling failed for problem {result.request.problem.id}: requested "
            f"{result.request.n} samples, the sampler returned {len(result.samples)}"
        )
        return FailedRequest(result.request, message)
    return result


def seed_of(set_identity: Identity, ordinal: int, index: int) -> int:
    """Returns the seed of sample `index` of the problem at position `ordinal`; unique in a set.

    Sets start at different offsets, so that two sets rarely share a seed; if they do, the two
    samples are from different distributions.
    """
    if not 0 <= index < SEED_STRIDE or not 0 <= ordinal < SEED_SPACE // SEED_STRIDE:
        raise ValueError(
            f"no seed for problem {ordinal}, sample {index}: allowed are 2^20 problems of 4,096 "
            "samples each"
        )
    offset = int(hashlib.sha256(set_identity.fingerprint.encode()).hexdigest(), 16)
    return (offset + ordinal * SEED_STRIDE + index) % SEED_SPACE


def _missing(
    samples: SampleSet, problems: Sequence[Problem], per_problem: Sequence[int], unit: int = 1
) -> Iterator[Request]:
    """Yields requests for the missing samples, in whole trees of `unit` samples. A problem's seeds
    follow from its position, so `problems` must include problems that need no samples."""
    all_stored = samples.stored_indices()
    for ordinal, (problem, n) in enumerate(zip(problems, per_problem, strict=True)):
        stored = _check_whole_trees(all_stored.get(problem.id, 0), n, unit, problem.id)
        first = 0
        while first < n:
            if stored >> first & 1:
                first += unit
                continue
            stop = first
            # the seeds of a request must not wrap around at 32 bits; within a tree they may,
            # because its samples are requested one by one
            while (
                stop < n
                and not stored >> stop & 1
                and not (stop > first and seed_of(samples.identity, ordinal, stop) < unit)
            ):
                stop += unit
            seed = seed_of(samples.identity, ordinal, first)
            yield Request(problem, first, stop - first, seed)
            first = stop


def _check_whole_trees(stored: int, n: int, unit: int, problem: str) -> int:
    """Returns `stored` (index i is bit i). Raises InvalidResult if a tree is stored in part: the
    samples of a tree depend on each other and cannot be drawn separately."""
    whole = (1 << unit) - 1
    for first in range(0, n if unit > 1 else 0, unit):
        if (stored >> first & whole) not in (0, whole):
            raise InvalidResult(
                f"tree {first // unit} of problem {problem} is incomplete; remove the files "
                "part-*.parquet of its sample set and run again"
            )
    return stored


def _rows(response: Response, decoder: DecoderConfig) -> Iterator[dict[str, object]]:
    request = response.request
    for i, (token_ids, text, finish) in enumerate(response.samples):
        yield {
            "problem_id": request.problem.id,
            "sample_index": request.first_index + i,
            "seed": (request.seed + i) % SEED_SPACE,
            "subset": request.problem.subset,
            "prompt": request.problem.prompt,
            "text": text,
            "token_ids": list(token_ids),
            "finish": finish,
            "facts": json.dumps(request.problem.facts),
            "stratum": decoder.stratum(request.first_index + i),
            "tree": decoder.tree(request.first_index + i),
        }


def _write_part(samples: Growing, rows: list[dict[str, object]]) -> int:
    if rows:
        samples.added(parts.write(samples.path, rows))
    return len(rows)
