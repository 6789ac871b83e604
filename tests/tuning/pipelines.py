"""Pipelines of trials with a sampler that makes responses up, on the shipped base."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from forkdiv.core.config.load import load
from forkdiv.core.config.study import DecoderConfig
from forkdiv.core.progress import Progress
from forkdiv.core.records import Problem
from forkdiv.core.store import Store
from forkdiv.coverage import exact
from forkdiv.models.checkpoint import Checkpoint, open_checkpoint
from forkdiv.tasks.registry import build
from tests.fakes import FakeSampler, an_eval
from tuning.trial import Pipeline

BASE = Path(__file__).parents[2] / "forkdiv/models/base/graph-d3-l3"
SETTINGS = ["eval.problems=10", "eval.samples=8", "eval.bootstrap=100", f"base={BASE}"]


@cache
def base() -> Checkpoint:
    return open_checkpoint(BASE)


@cache
def true_chances(path: Path, temperature: float) -> dict[str, float]:
    study = load(None, SETTINGS)
    problems = build(study.task).heldout("test", 20)
    decoder = DecoderConfig(temperature=temperature)
    values = exact.probabilities(an_eval(study.task, problems, decoder), open_checkpoint(path))
    return {problem.id: float(p) for problem, p in zip(problems, values, strict=True)}


def faithful(checkpoint: Checkpoint, problem: Problem) -> float:
    """The model's own chance of a correct answer at temperature 1."""
    return true_chances(checkpoint.path, 1.0)[problem.id]


def a_line(root: Path, sampler: FakeSampler, *settings: str) -> Pipeline:
    study = load(None, [*SETTINGS, f"place.root={root}", *settings])
    progress = Progress(root / "progress.jsonl")
    return Pipeline(study, base(), Store(root / "store"), sampler, progress)
