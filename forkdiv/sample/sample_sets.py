"""k completions of every problem, each kept under its own key, so that more extend what is there.

A sample set is the samples of one checkpoint under one decoder: a folder of Parquet parts that
grows. Every sample has its own seed and is stored with all that is needed to score it again.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Pace, Progress
from forkdiv.core.records import Completion, Problem
from forkdiv.core.store import Store, publish_file, write_text
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.evaluation import Evaluation

# A sampler gives response i of a request the seed base + i. torch's CPU generator keeps the
# low 32 bits of a seed only, so seeds must differ there: 2^20 problems of 4,096 samples each.
SEED_STRIDE = 4096
SEED_SPACE = 2**32
REQUESTS_PER_PART, PART_S = 64, 30.0  # whichever comes first
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("sample_index", pa.int32()),
        ("seed", pa.int64()),
        ("subset", pa.string()),
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("finish", pa.string()),
        ("facts", pa.string()),
        # of a design: the rank of the first token forced, the tree drawn in; else null
        ("stratum", pa.int32()),
        ("tree", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Request:
    """`n` samples of one problem; sample first_index + i is drawn with seed + i. Under a decoder
    that draws trees they are whole ones. Samples go on
    from `prefix`, the beginning of a response, and are returned without it."""

    problem: Problem
    first_index: int
    n: int
    seed: int
    prefix: str = ""


@dataclass(frozen=True)
class Response:
    """What a sampler returned for one request: (token ids, text, finish) of each sample."""

    request: Request
    samples: Sequence[tuple[Sequence[int], str, str]]


@dataclass(frozen=True)
class Failed:
    """A request that failed for good, after retries: its samples do not exist."""

    request: Request
    message: str


class SamplerClient(Protocol):
    """Draws samples from a named checkpoint, answering requests in any order."""

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | Failed]: ...


@dataclass(frozen=True)
class SampleSet:
    """All samples of one checkpoint under one decoder, so far; what failed this time, and how
    many were drawn this time."""

    identity: Identity
    path: Path
    failed: tuple[Failed, ...] = ()
    drawn: int = 0

    def completions(
        self, problems: Sequence[Problem], n: int, parts: Iterable[Path] | None = None
    ) -> Iterator[Completion]:
        """The first `n` samples of each problem, as they come: parts are read row by row, all of
        them where it is not known which hold these problems.

        Token ids are left in the files. Raises InvalidResult where a sample is there twice, and,
        at the end, where one is missing that is not among the failed.
        """
        owed = {problem.id: (1 << n) - 1 for problem in problems}
        for part in sorted(self.parts if parts is None else parts):
            for row, one in _rows_of(part, pa.array(owed, pa.string()), n):
                bit = 1 << one.sample_index
                if not owed[one.problem_id] & bit:
                    raise InvalidResult(
                        f"sample {one.sample_index} of problem {one.problem_id} is there twice: "
                        f"again in row {row} of {part}; remove that part and run again"
                    )
                owed[one.problem_id] ^= bit
                yield one
        for lost in self.failed:
            drawn = ((1 << lost.request.n) - 1) << lost.request.first_index
            owed[lost.request.problem.id] &= ~drawn
        missing = [f"{id} ({left.bit_count()})" for id, left in owed.items() if left]
        if missing:
            raise InvalidResult(
                f"samples of {len(missing)} problems are missing from {self.path}: "
                f"{', '.join(missing[:5])}{' …' if missing[5:] else ''}; run again to draw them"
            )

    def portions(self, n: int) -> Callable[[Sequence[Problem]], Iterator[Completion]]:
        """`completions` for some problems at a time: a part is opened only for those it holds."""
        parts: dict[str, list[Path]] = {}
        for part in self.parts:
            for id in pq.read_table(part, columns=["problem_id"])["problem_id"].unique():
                parts.setdefault(id.as_py(), []).append(part)

        def completions(some: Sequence[Problem]) -> Iterator[Completion]:
            mine = {part for one in some for part in parts.get(one.id, ())}
            return self.completions(some, n, mine)

        return completions

    @property
    def parts(self) -> list[Path]:
        """The files there are so far."""
        return list(self.path.glob("part-*.parquet"))

    def require_complete(self) -> None:
        """Raise InvalidResult where requests failed for good."""
        if self.failed:
            lost = sum(one.request.n for one in self.failed)
            raise InvalidResult(f"{lost} samples could not be drawn: {self.failed[0].message}")

    def held(self) -> dict[str, int]:
        """The sample indices there are, by problem: index i is bit i."""
        held: dict[str, int] = {}
        for part in self.parts:
            keys = pq.read_table(part, columns=["problem_id", "sample_index"]).to_pydict()
            for problem_id, index in zip(keys["problem_id"], keys["sample_index"], strict=True):
                held[problem_id] = held.get(problem_id, 0) | 1 << index
        return held


def _rows_of(part: Path, ids: pa.Array, n: int) -> Iterator[tuple[int, Completion]]:
    """The first `n` samples of the problems `ids`, each with its row in the file."""
    columns = ["problem_id", "sample_index", "seed", "text", "finish"]
    first = 0
    with pq.ParquetFile(part) as file:
        # parts that were written before there were designs have none of these
        columns += [name for name in ("stratum", "tree") if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns, batch_size=4096):
            mine = pc.is_in(batch["problem_id"], value_set=ids)
            rows = pc.indices_nonzero(pc.and_(mine, pc.less(batch["sample_index"], n)))
            kept = batch.take(rows)
            texts = (kept[name].to_pylist() for name in columns)
            for row, *values in zip(rows.to_pylist(), *texts, strict=True):
                problem_id, index, seed, text, finish, *design = values
                one = Completion(problem_id, index, seed, text, (), finish, *design)
                yield first + row, one
            first += len(batch)


def identity(evaluation: Evaluation, checkpoint: Checkpoint) -> Identity:
    """How many problems and samples is left out: more of them extend the same set."""
    config = evaluation.config
    held_out = {"task": evaluation.task.identity(), "split": config.split, "seed": config.seed}
    return Identity(
        "samples",
        held_out | {"decoder": evaluation.decoder, "prompt": evaluation.prompt},
        {"checkpoint": checkpoint.fingerprint},
    )


def planned(store: Store, evaluation: Evaluation, checkpoint: Checkpoint) -> SampleSet:
    """Where the samples are, or will be."""
    what = identity(evaluation, checkpoint)
    return SampleSet(what, store.path(what))


def obtain(
    store: Store,
    evaluation: Evaluation,
    checkpoint: Checkpoint,
    sampler: SamplerClient,
    progress: Progress,
    each: Sequence[int] = (),
) -> SampleSet:
    """The sample set with as many samples of each problem as `each` says, or `eval.samples` of
    all; only missing ones are drawn.

    Raises InvalidResult where a number is not one of whole trees, or where a tree that is there
    is not whole.
    """
    problems, decoder = evaluation.problems, evaluation.decoder
    each = each or [evaluation.config.samples] * len(problems)
    for n in each:
        if n % decoder.unit:
            raise InvalidResult(
                f"{n} samples of a problem were asked for; allowed: a multiple of "
                f"decoder.tree_samples={decoder.unit}"
            )
    what = identity(evaluation, checkpoint)
    with store.growing(what, progress) as path:
        samples = SampleSet(what, path)
        for stale in path.glob(".part-*"):
            stale.unlink()
        requests = list(_missing(samples, problems, each, decoder.unit))
        if requests:
            if not (path / "identity.json").exists():
                write_text(path / "identity.json", json.dumps(what.describe(), indent=1))
            drawn, failed = _draw(samples, requests, checkpoint, decoder, sampler, progress)
            samples = replace(samples, failed=failed, drawn=drawn)
    return samples


def _draw(
    samples: SampleSet,
    requests: list[Request],
    checkpoint: Checkpoint,
    decoder: DecoderConfig,
    sampler: SamplerClient,
    progress: Progress,
) -> tuple[int, tuple[Failed, ...]]:
    """How many were drawn, and what failed."""
    total = sum(request.n for request in requests)
    progress(f"sampling {total} responses at temperature {decoder.temperature:g}")
    pace = Pace(total)
    done = 0
    rows: list[dict[str, object]] = []
    waiting = 0
    failed: list[Failed] = []
    try:
        for response in sampler.sample(checkpoint, decoder, requests):
            answer = checked(response)
            if isinstance(answer, Failed):
                failed.append(answer)
                progress(f"failed for good: {answer.message}")
                continue
            rows.extend(_rows(answer, decoder))
            waiting += 1
            if waiting == REQUESTS_PER_PART or pace.seconds_since_report > PART_S:
                done += _write_part(samples.path, rows)
                rows, waiting = [], 0
                progress(f"sampled {pace.report(done)}")
    finally:  # also what came before a sampler broke off
        done += _write_part(samples.path, rows)
    progress(f"sampled {pace.report(done)}")
    return done, tuple(failed)


def checked(answer: Response | Failed) -> Response | Failed:
    """The answer, or a failure where it has not as many samples as were asked for."""
    if isinstance(answer, Response) and len(answer.samples) != answer.request.n:
        wrong = f"asked for {answer.request.n} samples, got {len(answer.samples)}"
        return Failed(answer.request, wrong)
    return answer


def seed_of(what: Identity, ordinal: int, index: int) -> int:
    """The seed of sample `index` of the problem at `ordinal`: never twice within a set.

    Sets start at different offsets, so that two of them hardly ever share a seed; where they
    do, the two draws belong to different distributions.
    """
    if not 0 <= index < SEED_STRIDE or not 0 <= ordinal < SEED_SPACE // SEED_STRIDE:
        raise ValueError(f"no seed for problem {ordinal}, sample {index}: allowed 2^20 and 4,096")
    offset = int(hashlib.sha256(what.fingerprint.encode()).hexdigest(), 16)
    return (offset + ordinal * SEED_STRIDE + index) % SEED_SPACE


def _missing(
    samples: SampleSet, problems: Sequence[Problem], each: Sequence[int], unit: int = 1
) -> Iterator[Request]:
    """What is not there yet, in whole trees of `unit` samples. A problem's seeds follow from its
    place among all problems, so those that are owed nothing are passed as well."""
    held = samples.held()
    for ordinal, (problem, n) in enumerate(zip(problems, each, strict=True)):
        have = _whole_units(held.get(problem.id, 0), n, unit, problem.id)
        first = 0
        while first < n:
            if have >> first & 1:
                first += unit
                continue
            stop = first
            # a run of seeds must not wrap around where base + i would leave the 32 bits; within
            # a tree it may: its samples are asked for one by one
            while (
                stop < n
                and not have >> stop & 1
                and not (stop > first and seed_of(samples.identity, ordinal, stop) < unit)
            ):
                stop += unit
            seed = seed_of(samples.identity, ordinal, first)
            yield Request(problem, first, stop - first, seed)
            first = stop


def _whole_units(have: int, n: int, unit: int, problem: str) -> int:
    """`have`, of which no unit may be there in part: its samples follow from one another."""
    whole = (1 << unit) - 1
    for first in range(0, n if unit > 1 else 0, unit):
        if (have >> first & whole) not in (0, whole):
            raise InvalidResult(
                f"tree {first // unit} of problem {problem} is there in part; remove the part "
                "files of its sample set and run again"
            )
    return have


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


def _write_part(path: Path, rows: list[dict[str, object]]) -> int:
    if rows:
        name = f"part-{uuid.uuid4().hex}.parquet"
        aside = path / f".{name}"
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), aside, compression="zstd")
        publish_file(aside, path / name)
    return len(rows)
