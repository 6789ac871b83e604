"""The line, walked once: dataset, train, sample, score, coverage, for one point of the grid.

Every stage finds its result by fingerprint where it exists, so a trial that differs from an
earlier one in the temperature only starts at sampling.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.study import EvalConfig, StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.results import Cell
from forkdiv.core.store import Artifact, Store
from forkdiv.coverage import estimate, exact, exact_forks, stats
from forkdiv.coverage.cells import CellInputs, cells, mean_pass_at
from forkdiv.coverage.fork_summary import ForkProbabilities
from forkdiv.coverage.stats import Floats
from forkdiv.data import dataset
from forkdiv.forks import synthesis
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import FailedRequest, Request, Response, SamplerClient, SampleSet
from forkdiv.score import verdicts
from forkdiv.score.counts import ProblemCounts
from forkdiv.tasks.registry import build
from forkdiv.train import log, sft_run
from forkdiv.train.eval_during import Evaluate
from tuning.space import Point, at


@dataclass
class TrialResult:
    """A point's cells and where they came from; plain values, so that it crosses processes.

    `dynamics` are the cells of the checkpoints that were saved before the last one. `passed` is
    pass@k of each held-out problem, by k (the smallest and the largest), and `choice` is pass@k on
    the validation problems by subset and k, for choosing a decoder; empty where nothing is chosen.
    """

    point: Point
    fingerprint: str
    cells: list[Cell]
    checkpoint: str
    train: str | None = None
    dynamics: list[Cell] = field(default_factory=list)
    passed: dict[str, list[float]] = field(default_factory=dict)
    subsets: list[str] = field(default_factory=list)
    choice: dict[str, dict[str, float]] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    drawn: int = 0

    def as_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = TypeAdapter(TrialResult).dump_python(
            self, mode="json", exclude_unset=True
        )
        return plain

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> TrialResult:
        return TypeAdapter(TrialResult).validate_python(plain)


class NoSampler:
    """Where every sample is there already."""

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]:
        raise InvalidResult(
            f"samples of {checkpoint.path} are missing, and this command starts no sampler"
        )


@dataclass
class Pipeline:
    """The stages, bound to one study, its base, store and sampler."""

    study: StudyConfig
    base: Checkpoint
    store: Store
    sampler: SamplerClient
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    drawn: int = 0  # samples, in all

    def run(self, point: Point) -> TrialResult:
        """All stages for `point`. Raises InvalidResult or what Ray Train raises."""
        self.seconds, self.drawn = {}, 0
        study = at(self.study, point)
        if not point.tuned:
            return self.compared(study, point, {0: self.base})
        run = self.trained(study, self.evaluate_during_training(study, point))
        found = self.compared(study, point, self.measured_checkpoints(study, run))
        return replace(found, train=run.fingerprint, history=_history(run))

    def compared(
        self, study: StudyConfig, point: Point, checkpoints: Mapping[float, Checkpoint]
    ) -> TrialResult:
        """Sample and score `checkpoints`, saved one after the other and named by epoch, and the
        base under the same decoder to compare with. The last one is the point's own."""
        evaluation = Evaluation.of(study)
        *earlier, last = checkpoints
        dynamics = [
            cell
            for epoch in earlier
            for cell in self._cells(evaluation, point, checkpoints[epoch], epoch, False)[0]
        ]
        cells, counts, fingerprint = self._cells(evaluation, point, checkpoints[last], last)
        return TrialResult(
            point=point,
            fingerprint=fingerprint,
            cells=cells,
            checkpoint=checkpoints[last].fingerprint,
            dynamics=dynamics,
            passed=_passed(evaluation.config, counts),
            subsets=[one.subset for one in counts],
            choice=self._choice(evaluation, checkpoints[last]),
            seconds=self.seconds,
            drawn=self.drawn,
        )

    def _cells(
        self,
        evaluation: Evaluation,
        point: Point,
        checkpoint: Checkpoint,
        epoch: float,
        named: bool = True,
    ) -> tuple[list[Cell], list[ProblemCounts], str]:
        """The cells of one checkpoint, its counts, and the fingerprint of those."""
        config, problems = evaluation.config, evaluation.problems
        counts, samples = self.evaluated(evaluation, checkpoint)
        own = checkpoint.fingerprint == self.base.fingerprint
        theirs = None if own else self.evaluated(evaluation, self.base)[0]
        with self._timed("exact"):
            forks = self.at_forks(evaluation, checkpoint)
            p = forks.p if forks else self.exact(evaluation, checkpoint)
        name = point.cell_name(None if own else epoch or None)
        # problems lost and gained are named for the last checkpoint alone: lists fill a summary
        prompts = [one.prompt for one in problems] if named else ()
        found = CellInputs(counts, theirs, p, prompts, forks)
        with self._timed("coverage"):
            made = cells(name, found, config)
        rule = [f"until {config.enough} correct"] if config.enough else []
        what = verdicts.identity(samples, len(problems), config.samples, rule)
        return made, counts, what.fingerprint

    def _choice(
        self, evaluation: Evaluation, checkpoint: Checkpoint
    ) -> dict[str, dict[str, float]]:
        """pass@k on the validation problems, by subset and k."""
        if not (problems := evaluation.config.validation_problems):
            return {}
        validation = evaluation.on_validation(problems)
        return mean_pass_at(self.evaluated(validation, checkpoint)[0], validation.config)

    def trained(self, study: StudyConfig, evaluate: Evaluate | None = None) -> Artifact:
        """The run of the study's own settings; `evaluate` is given the checkpoints as they come."""
        data = self.data(study)
        with self._timed("train"):
            return sft_run.obtain(
                self.store,
                data,
                self.base,
                study.sft,
                study.place,
                self.progress,
                study.prompt,
                evaluate,
            )

    def evaluate_during_training(self, study: StudyConfig, point: Point) -> Evaluate | None:
        """Samples and scores a checkpoint while the training goes on, so that `compared` finds
        everything in the store. None where the checkpoints between are not what is measured."""
        if study.interpolation != 1:
            return None
        evaluation = Evaluation.of(study)
        pipeline = replace(self, seconds={}, drawn=0)  # for another thread

        def evaluate(epoch: float, checkpoint: Checkpoint) -> None:
            self.progress(f"evaluation: epoch {epoch:g}, while training continues")
            try:
                pipeline._cells(evaluation, point, checkpoint, epoch, False)
            except InvalidResult as error:  # `compared` meets it again, and says so in the cell
                self.progress(
                    f"evaluation: epoch {epoch:g} failed and is retried after training: {error}"
                )
            self.drawn += pipeline.drawn
            pipeline.drawn = 0

        return evaluate

    def measured_checkpoints(self, study: StudyConfig, run: Artifact) -> dict[float, Checkpoint]:
        """The run's checkpoints by epoch, or the one between the base and its last."""
        saved = sft_run.checkpoints(run)
        if study.interpolation == 1:
            return saved
        from forkdiv.models import interpolate  # torch

        epoch, late = saved.popitem()
        with self._timed("interpolation"):
            between = interpolate.obtain(
                self.store, self.base, late, study.interpolation, self.progress
            )
        return {epoch: between}

    def data(self, study: StudyConfig) -> Artifact:
        """The fine-tuning data, repaired where the study says so."""
        task = build(study.task)
        with self._timed("dataset"):
            plain = dataset.obtain_sft(self.store, task, study.dataset, self.progress)
        with self._timed("synthesis"):
            return synthesis.obtain(
                self.store, study, task, plain, self.base, self.sampler, self.progress
            )

    def evaluated(
        self, evaluation: Evaluation, checkpoint: Checkpoint
    ) -> tuple[list[ProblemCounts], Identity]:
        """The checkpoint's counts by problem, and the identity of its samples."""
        if evaluation.config.enough:
            return self._until_settled(evaluation, checkpoint)
        task, problems, n = evaluation.task, evaluation.problems, evaluation.config.samples
        samples = self.sampled(evaluation, checkpoint)
        with self._timed("score"):
            counts = verdicts.obtain(self.store, task, problems, n, samples)
        return counts, samples.identity

    def _until_settled(
        self, evaluation: Evaluation, checkpoint: Checkpoint
    ) -> tuple[list[ProblemCounts], Identity]:
        """Stage by stage, each for the problems that the ones before have not settled."""
        config, problems = evaluation.config, evaluation.problems
        assert config.enough
        design = stats.doubling(config.samples, config.first, config.enough)
        counted: dict[str, ProblemCounts] = {}
        unsettled = problems
        for n in design.stages:
            names = {problem.id for problem in unsettled}
            each = [n if problem.id in names else 0 for problem in problems]
            samples = self.sampled(evaluation, checkpoint, each)
            some = len(unsettled) < len(problems)
            with self._timed("score"):
                counts = verdicts.obtain(self.store, evaluation.task, unsettled, n, samples, some)
            for count in counts:
                count.stages, count.enough = design.stages, design.enough
                counted[count.problem_id] = count
            # one with an error has no verdict to go by: its cell is invalid, whatever comes
            unsettled = [
                problem
                for problem, count in zip(unsettled, counts, strict=True)
                if not count.error and design.continues(n, count.correct)
            ]
            if not unsettled:
                break
        return [counted[problem.id] for problem in problems], samples.identity

    def sampled(
        self, evaluation: Evaluation, checkpoint: Checkpoint, each: Sequence[int] = ()
    ) -> SampleSet:
        """The checkpoint's samples, drawn where they are missing; `each` says how many of each
        problem, where they differ."""
        with self._timed("sample"):
            samples = sample_sets.obtain(
                self.store, evaluation, checkpoint, self.sampler, self.progress, each
            )
        self.drawn += samples.drawn
        return samples

    def exact(self, evaluation: Evaluation, checkpoint: Checkpoint) -> Floats | None:
        """Exact probabilities, or None where the decoder draws trees or the task cannot list
        every correct response."""
        if evaluation.decoder.tree_samples or not evaluation.task.exhaustive:
            return None
        return exact.read(exact.obtain(self.store, evaluation, checkpoint))

    def at_forks(self, evaluation: Evaluation, checkpoint: Checkpoint) -> ForkProbabilities | None:
        """What the checkpoint does at the forks, with exact probabilities; None where the decoder
        is more than a temperature, or the task does not know its forks."""
        if not evaluation.decoder.is_plain:
            return None
        if not exact_forks.applies(evaluation.task, evaluation.problems):
            return None
        return exact_forks.read(exact_forks.obtain(self.store, evaluation, checkpoint))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + passed


def _passed(config: EvalConfig, counts: list[ProblemCounts]) -> dict[str, list[float]]:
    if not config.validation_problems or any(one.error for one in counts):
        return {}
    ks = sorted({config.ks[0], config.ks[-1]})
    rows = estimate.pass_at(counts, ks).T.tolist()
    return {str(k): row for k, row in zip(ks, rows, strict=True)}


def _history(run: Artifact) -> list[dict[str, float]]:
    names = {"step": "step", "loss": "train_loss"} | {
        name: name for name in ("learning_rate", "grad_norm", "response_tokens_per_s", "memory_gib")
    }
    return [{shown: row[name] for name, shown in names.items()} for row in log.read_log(run.path)]
