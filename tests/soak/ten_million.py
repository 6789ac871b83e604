"""A study of samples that no model drew: 10,000 graph problems, 1,000 responses to each.

`make` writes the sample sets of a base and of a tuned model as the sampler would, in parts;
`walk` scores and compares them as a trial does, and writes the report. Each prints one line of
JSON at its end. Run as a program, so that the peak memory of `walk` is its own:

    python -m tests.soak.ten_million make|walk FOLDER [PROBLEMS SAMPLES]
"""

from __future__ import annotations

import json
import resource
import sys
import time
import uuid
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.records import Finish, Problem
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.parts import SCHEMA
from forkdiv.sample.sample_sets import REQUESTS_PER_PART
from forkdiv.tasks.registry import build
from tests.fakes import NAMES, UNREADABLE, broken, other_end, right

BASE, TUNED = Checkpoint(Path("base"), "b" * 32), Checkpoint(Path("tuned"), "t" * 32)
STRAYED = 40  # other broken paths among the responses to a problem
PROBLEMS, SAMPLES = 10_000, 1_000


def study(root: Path, problems: int, samples: int) -> StudyConfig:
    """Under a decoder that cuts the distribution, as a user of a real model has it."""
    return StudyConfig.model_validate(
        {
            "name": "million",
            "base": None,
            "decoder": {"top_k": 8},
            "eval": {"problems": problems, "samples": samples},
            "place": {"root": root},
        }
    )


def make(root: Path, problems: int, samples: int) -> dict[str, Any]:
    config = study(root, problems, samples)
    heldout = build(config.task).heldout("test", problems)
    for checkpoint, low, high in ((BASE, 2.0, 4.0), (TUNED, 0.3, 0.4)):
        what = identity(config, checkpoint)
        random = np.random.default_rng(len(what.fingerprint) + int(high * 10))
        chances = random.beta(low, high, problems)
        with Store(root / "store").growing(what, lambda message: None) as growing:
            for first in range(0, problems, REQUESTS_PER_PART):
                tables = [
                    _responses(what, at, heldout[at], chances[at], samples, random)
                    for at in range(first, min(first + REQUESTS_PER_PART, problems))
                ]
                name = f"part-{uuid.UUID(int=Random(first).getrandbits(128)).hex}.parquet"
                pq.write_table(pa.concat_tables(tables), growing.path / name, compression="zstd")
    return {}


def identity(config: StudyConfig, checkpoint: Checkpoint) -> Identity:
    return sample_sets.identity(Evaluation.of(config), checkpoint)


def _responses(
    what: Identity,
    ordinal: int,
    problem: Problem,
    chance: float,
    samples: int,
    random: np.random.Generator,
) -> pa.Table:
    """One in ten strays, one in fifty is cut off, one in a hundred is unreadable."""
    texts, finish = _pool(problem)
    weights = np.full(len(texts), 0.1 / STRAYED)
    weights[:5] = [chance * 0.8, chance * 0.07, (1 - chance) * 0.87, 0.02, 0.01]
    drawn = pa.array(random.choice(len(texts), samples, p=weights / weights.sum()))
    tokens = [[NAMES.index(node) for node in text.split() if node in NAMES] for text in texts]
    first = sample_sets.seed_of(what, ordinal, 0)
    columns = {
        "problem_id": [problem.id] * samples,
        "sample_index": np.arange(samples, dtype=np.int32),
        "seed": (first + np.arange(samples)) % sample_sets.SEED_SPACE,
        "subset": [problem.subset] * samples,
        "prompt": [problem.prompt] * samples,
        "text": pa.array(texts).take(drawn),
        "token_ids": pa.array(tokens, pa.list_(pa.int32())).take(drawn),
        "finish": pa.array(finish).take(drawn),
        "facts": [json.dumps(problem.facts)] * samples,
    }
    none = pa.nulls(len(next(iter(columns.values()))), pa.int32())
    return pa.table({**columns, "stratum": none, "tree": none}, schema=SCHEMA)


def _pool(problem: Problem) -> tuple[list[str], list[str]]:
    """Texts and how they ended: right either way round, wrong, cut off, unreadable, astray."""
    told, random = right(problem), Random(problem.id)
    backwards = " ".join(reversed(told.split()))
    astray = [" ".join([told[0], *random.choices(NAMES, k=3)]) for _ in range(STRAYED)]
    cut = " ".join(random.choices(NAMES, k=16))
    texts = [told, backwards, other_end(problem), cut, UNREADABLE, broken(problem), *astray]
    return texts, [Finish.LENGTH if text == cut else Finish.STOP for text in texts]


def walk(root: Path, problems: int, samples: int) -> dict[str, Any]:
    """Seconds by stage, the samples counted and pass@1 over all problems."""
    from forkdiv.coverage import summary
    from forkdiv.report import page
    from tuning.space import Point
    from tuning.trial import NoSampler, Pipeline

    class OfSamples(Pipeline):
        """The checkpoints are names without weights: nothing is known but samples."""

        def exact(self, *_: Any) -> None:
            return None

        def at_forks(self, *_: Any) -> None:
            return None

    config = study(root, problems, samples)
    progress = Progress(root / "progress.jsonl")
    line = OfSamples(config, BASE, Store(root / "store"), NoSampler(), progress)
    own, other = (Point(config.decoder.temperature, 0, tuned) for tuned in (False, True))
    base = line.compared(config, own, {0: BASE})
    tuned = line.compared(config, other, {1: TUNED})
    made = summary.assemble(config, "f" * 64, (), [base.cells, tuned.cells], line.seconds)
    summary.check(made)
    started = time.perf_counter()
    page.write(made, root / config.name)
    seconds = {**line.seconds, "report": time.perf_counter() - started}
    whole = {"base": base.cells[-1], "tuned": tuned.cells[-1]}
    return {
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
        "samples": sum(one.n_problems * one.n_samples for one in whole.values()),
        "pass_at_1": {name: one.as_json()["pass_at"]["1"]["value"] for name, one in whole.items()},
        "law": {name: one.as_json()["law"] for name, one in whole.items()},
    }


def peak_kib() -> dict[str, int]:
    """Of this process, and of the largest of those it started and waited for: the grader.

    VmHWM and not ru_maxrss for this one: the latter goes on from the parent's.
    """
    status = Path("/proc/self/status").read_text()
    (mine,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "own_kib": int(mine),
        "children_kib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
    }


def cpu_seconds() -> float:
    """Of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(verb: str, folder: str, *sizes: str) -> None:
    problems, samples = map(int, sizes or (PROBLEMS, SAMPLES))
    started = time.perf_counter()
    told = {"make": make, "walk": walk}[verb](Path(folder), problems, samples)
    spent = {"wall_s": time.perf_counter() - started, "cpu_s": cpu_seconds()}
    print(json.dumps({k: round(v, 1) for k, v in spent.items()} | peak_kib() | told))


if __name__ == "__main__":
    main(*sys.argv[1:])
