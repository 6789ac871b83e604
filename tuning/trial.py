"""The line, walked once: dataset, train, sample, score, coverage, for one point of the grid.

Every stage finds its result by fingerprint where it exists, so a trial that differs from an
earlier one in the temperature only starts at sampling.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from forkdiv import dataset, exact, sample, score, synthesis, train, train_log
from forkdiv.artifacts import Artifact, Store
from forkdiv.cell import cells
from forkdiv.checkpoint import Checkpoint
from forkdiv.config import StudyConfig
from forkdiv.coverage import Floats
from forkdiv.fingerprint import Identity
from forkdiv.progress import Progress
from forkdiv.records import Problem
from forkdiv.sample import SamplerClient
from forkdiv.tally import ProblemCounts
from forkdiv.tasks import build
from tuning.space import Point, at


@dataclass
class TrialResult:
    """A point's cells and where they came from; plain values, so that it crosses processes."""

    point: Point
    fingerprint: str
    cells: list[dict[str, Any]]
    checkpoint: str
    train: str | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Line:
    """The stages, bound to one study, its base, store and sampler."""

    study: StudyConfig
    base: Checkpoint
    store: Store
    sampler: SamplerClient
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def walk(self, point: Point) -> TrialResult:
        """All stages for `point`. Raises InvalidResult or what Ray Train raises."""
        self.seconds = {}
        study = at(self.study, point)
        run = self.trained(study) if point.tuned else None
        checkpoint = train.last(run) if run else self.base
        return self.compared(study, point, checkpoint, run)

    def compared(
        self,
        study: StudyConfig,
        point: Point,
        checkpoint: Checkpoint,
        run: Artifact | None,
    ) -> TrialResult:
        """Sample and score `checkpoint`, and the base under the same decoder to compare with."""
        problems = build(study.task).heldout(study.eval.split, study.eval.problems)
        counts, samples = self.evaluated(study, problems, checkpoint)
        own = checkpoint.fingerprint == self.base.fingerprint
        theirs = None if own else self.evaluated(study, problems, self.base)[0]
        with self._timed("exact"):
            p = self.known(study, problems, checkpoint)
        return TrialResult(
            point=point,
            fingerprint=score.identity(samples, len(problems), study.eval.samples).fingerprint,
            cells=cells(asdict(point), counts, theirs, p, study.eval),
            checkpoint=checkpoint.fingerprint,
            train=run.fingerprint if run else None,
            history=_history(run) if run else [],
            seconds=self.seconds,
        )

    def trained(self, study: StudyConfig) -> Artifact:
        data = self.data(study)
        with self._timed("train"):
            return train.obtain(
                self.store, data, self.base, study.sft, study.place, self.progress, study.prompt
            )

    def data(self, study: StudyConfig) -> Artifact:
        """The fine-tuning data, repaired where the study says so."""
        with self._timed("dataset"):
            plain = dataset.obtain_sft(self.store, study.task, study.dataset, self.progress)
        with self._timed("synthesis"):
            return synthesis.obtain(
                self.store, study, plain, self.base, self.sampler, self.progress
            )

    def evaluated(
        self, study: StudyConfig, problems: list[Problem], checkpoint: Checkpoint
    ) -> tuple[list[ProblemCounts], Identity]:
        n = study.eval.samples
        what = sample.identity(study.task, study.eval, checkpoint, study.decoder, study.prompt)
        with self._timed("sample"):
            samples = sample.obtain(
                self.store,
                what,
                problems,
                n,
                checkpoint,
                study.decoder,
                self.sampler,
                self.progress,
            )
        with self._timed("score"):
            return score.obtain(self.store, study.task, problems, n, samples), what

    def known(
        self, study: StudyConfig, problems: list[Problem], checkpoint: Checkpoint
    ) -> Floats | None:
        """Exact probabilities, or None where the decoder's distribution is not the model's or
        the task cannot list every correct response."""
        if study.decoder.truncates or not build(study.task).exhaustive:
            return None
        found = exact.obtain(
            self.store, study.task, study.eval, problems, checkpoint, study.decoder, study.prompt
        )
        return exact.read(found)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + passed


def _history(run: Artifact) -> list[dict[str, float]]:
    names = {"step": "step", "loss": "train_loss"} | {
        name: name for name in ("learning_rate", "grad_norm", "response_tokens_per_s")
    }
    return [
        {shown: row[name] for name, shown in names.items()} for row in train_log.read_log(run.path)
    ]
