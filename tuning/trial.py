"""The pipeline of one trial: dataset, train, sample, score and coverage for one grid point.

Every stage reuses an existing result with the same fingerprint. So a trial that differs from an
earlier trial only in the temperature starts with sampling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
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
from forkdiv.learnability import stage
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import FailedRequest, Request, Response, SamplerClient, SampleSet
from forkdiv.score import verdicts
from forkdiv.score.counts import ProblemCounts
from forkdiv.tasks.registry import build
from forkdiv.train import log, sft_run
from forkdiv.train.eval_during import Evaluate
from forkdiv.train.stopping import Stopping
from tuning.space import Point, at


@dataclass
class TrialResult:
    """The cells of a grid point and their origin, as plain values that can be sent to another
    process.

    `dynamics` are the cells of the checkpoints that were saved before the last one. `is_stopped`
    means that a scheduler ended the trial: its cells are those of the last checkpoint that was
    measured, not of the end of training. `passed` is
    pass@k of each held-out problem by k (the smallest and the largest). `choice` is pass@k on the
    validation problems by subset and k, for choosing a decoder; both are empty if
    eval.validation_problems is not set.
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
    is_stopped: bool = False

    def as_json(self) -> dict[str, Any]:
        """Returns the result as JSON values."""
        values: dict[str, Any] = _json_values().dump_python(self, mode="json", exclude_unset=True)
        return values

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> TrialResult:
        """Returns the result from its JSON values."""
        return _json_values().validate_python(values)


@cache
def _json_values() -> TypeAdapter[TrialResult]:
    return TypeAdapter(TrialResult)  # building it takes longer than using it


class NoSampler:
    """A sampler client for commands without a sampler; it raises InvalidResult when it is used."""

    def sample(
        self, checkpoint: Checkpoint, decoder: DecoderConfig, requests: Iterable[Request]
    ) -> Iterator[Response | FailedRequest]:
        raise InvalidResult(
            f"samples of {checkpoint.path} are missing, and this command cannot draw samples; run "
            "`forkdiv study` (or `compare`, `evaluate`) with the same settings first"
        )

    def giving_way(self, name: str) -> AbstractContextManager[str]:
        return nullcontext("there is none")

    def tokens_drawn(self) -> None:
        return None


@dataclass
class Pipeline:
    """The stages of a study, with its base, store and sampler. `seconds` (by stage) and `drawn` are
    those of the current trial.

    `on_measured` is called with each measured checkpoint of a trained model but the last, by epoch,
    possibly more than once and from another thread; it may raise TrialStopped, as may `stopping`.
    `following` is a block in which a training writes the log at a path.
    """

    study: StudyConfig
    base: Checkpoint
    store: Store
    sampler: SamplerClient
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    drawn: int = 0  # number of samples drawn
    stopping: Stopping = field(default_factory=Stopping)
    on_measured: Callable[[float, TrialResult], None] = lambda epoch, measured: None
    following: Callable[[Path], AbstractContextManager[object]] = nullcontext

    def run(self, point: Point) -> TrialResult:
        """Runs all stages for `point`. Raises InvalidResult and the errors of Ray Train."""
        self.seconds, self.drawn = {}, 0
        study = at(self.study, point)
        if not point.tuned:
            return self.compared(study, point, {0: self.base})
        run = self.trained(study, self.evaluate_during_training(study, point))
        result = self.compared(study, point, self.measured_checkpoints(study, run))
        return replace(result, train=run.fingerprint, history=_history(run))

    def compared(
        self, study: StudyConfig, point: Point, checkpoints: Mapping[float, Checkpoint]
    ) -> TrialResult:
        """Samples and scores `checkpoints` (by epoch, in order), and the base with the same
        decoder. The last checkpoint is the model of the point; the others are its training
        dynamics."""
        evaluation = Evaluation.of(study)
        *earlier, last = checkpoints
        dynamics = [
            cell
            for epoch in earlier
            for cell in self._measured(evaluation, point, checkpoints[epoch], epoch).cells
        ]
        cells, counts, fingerprint = self._cells(evaluation, point, checkpoints[last], last)
        return TrialResult(
            point=point,
            fingerprint=fingerprint,
            cells=cells,
            checkpoint=checkpoints[last].fingerprint,
            dynamics=dynamics,
            passed=_passed(evaluation.config, counts),
            subsets=[row.subset for row in counts],
            choice=self._choice(evaluation, checkpoints[last]),
            seconds=self.seconds,
            drawn=self.drawn,
        )

    def _measured(
        self, evaluation: Evaluation, point: Point, checkpoint: Checkpoint, epoch: float
    ) -> TrialResult:
        """Returns what the trial has if it ends with this checkpoint, and passes it on."""
        cells, _, fingerprint = self._cells(evaluation, point, checkpoint, epoch, False)
        measured = TrialResult(point, fingerprint, cells, checkpoint.fingerprint)
        self.on_measured(epoch, measured)
        return measured

    def _cells(
        self,
        evaluation: Evaluation,
        point: Point,
        checkpoint: Checkpoint,
        epoch: float,
        named: bool = True,
    ) -> tuple[list[Cell], list[ProblemCounts], str]:
        """Returns the cells of one checkpoint, its counts, and the fingerprint of the counts. With
        `named`, the cells list the prompts of lost and gained problems."""
        config, problems = evaluation.config, evaluation.problems
        counts, samples = self.evaluated(evaluation, checkpoint)
        is_base = checkpoint.fingerprint == self.base.fingerprint
        base_counts = None if is_base else self.evaluated(evaluation, self.base)[0]
        with self._timed("exact"):
            forks = self.at_forks(evaluation, checkpoint)
            p = forks.p if forks else self.exact(evaluation, checkpoint)
        name = point.cell_name(None if is_base else epoch or None)
        # only for the last checkpoint, because lists of problems make a summary large
        prompts = [problem.prompt for problem in problems] if named else ()
        cell_inputs = CellInputs(counts, base_counts, p, prompts, forks)
        with self._timed("coverage"):
            rows = cells(name, cell_inputs, config)
        rule = [f"until {config.enough} correct"] if config.enough else []
        counts_identity = verdicts.identity(
            samples, len(problems), config.samples, rule, evaluation.grading(checkpoint)
        )
        return rows, counts, counts_identity.fingerprint

    def _choice(
        self, evaluation: Evaluation, checkpoint: Checkpoint
    ) -> dict[str, dict[str, float]]:
        """Returns pass@k on the validation problems, by subset and k."""
        if not (problems := evaluation.config.validation_problems):
            return {}
        validation = evaluation.on_validation(problems)
        return mean_pass_at(self.evaluated(validation, checkpoint)[0], validation.config)

    def trained(self, study: StudyConfig, evaluate: Evaluate | None = None) -> Artifact:
        """Returns the run with the study's settings; `evaluate` is called with each checkpoint
        while training continues."""
        data = self.data(study)
        table = self.learnability(study, data) if study.reads_table else None
        with self._timed("train"):
            return sft_run.obtain(
                self.store,
                data,
                self.base,
                study.sft,
                study.place,
                self.progress,
                study.prompt.without_shots,
                evaluate,
                turn=self._turn if study.place.engine.takes_turns else nullcontext,
                stopping=self.stopping,
                following=self.following,
                table=table,
            )

    def learnability(self, study: StudyConfig, data: Artifact) -> Artifact:
        """Returns the learnability table of the dataset `data`, with the study's settings."""
        turn = self._turn if study.place.engine.takes_turns else nullcontext
        with self._timed("learnability"):
            return stage.obtain(self.store, study, data, self.base, self.progress, turn)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A turn of training on the memory that the engine shares."""
        with self.sampler.giving_way(self.progress.who) as how:
            self.progress(f"fine-tuning: the engine has freed its memory ({how})")
            yield

    def evaluate_during_training(self, study: StudyConfig, point: Point) -> Evaluate | None:
        """Returns a function that samples and scores a checkpoint while training continues, so that
        `compared` finds its results in the store. None for an interpolated model, for which the
        checkpoints of the run are not measured."""
        if study.interpolation != 1:
            return None
        evaluation = Evaluation.of(study)
        pipeline = replace(self, seconds={}, drawn=0)  # used in another thread

        def evaluate(epoch: float, checkpoint: Checkpoint) -> None:
            self.progress(f"evaluation: epoch {epoch:g}, while training continues")
            try:
                pipeline._measured(evaluation, point, checkpoint, epoch)
            except InvalidResult as error:  # `compared` tries again and reports it in the cell
                self.progress(
                    f"evaluation: epoch {epoch:g} failed and is retried after training: {error}"
                )
            self.drawn += pipeline.drawn
            pipeline.drawn = 0

        return evaluate

    def measured_checkpoints(self, study: StudyConfig, run: Artifact) -> dict[float, Checkpoint]:
        """Returns the run's checkpoints by epoch, or only the interpolation between the base and
        the last checkpoint."""
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
        """Returns the fine-tuning data, with synthesized solutions if dataset.synthesis is set."""
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
        """Returns the checkpoint's counts by problem, and the identity of its samples."""
        if evaluation.config.enough:
            return self._until_settled(evaluation, checkpoint)
        task, problems, n = evaluation.task, evaluation.problems, evaluation.config.samples
        samples = self.sampled(evaluation, checkpoint)
        with self._timed("score"):
            thinking = evaluation.thinking(checkpoint)
            counts = verdicts.obtain(self.store, task, problems, n, samples, thinking=thinking)
        return counts, samples.identity

    def _until_settled(
        self, evaluation: Evaluation, checkpoint: Checkpoint
    ) -> tuple[list[ProblemCounts], Identity]:
        """Samples in stages; each stage draws samples only for the problems that earlier stages did
        not settle."""
        config, problems = evaluation.config, evaluation.problems
        assert config.enough
        design = stats.doubling(config.samples, config.first, config.enough)
        thinking = evaluation.thinking(checkpoint)
        counted: dict[str, ProblemCounts] = {}
        unsettled = problems
        for n in design.stages:
            names = {problem.id for problem in unsettled}
            per_problem = [n if problem.id in names else 0 for problem in problems]
            samples = self.sampled(evaluation, checkpoint, per_problem)
            is_subset = len(unsettled) < len(problems)
            with self._timed("score"):
                counts = verdicts.obtain(
                    self.store, evaluation.task, unsettled, n, samples, is_subset, thinking
                )
            for count in counts:
                count.stages, count.enough = design.stages, design.enough
                counted[count.problem_id] = count
            # a problem with an error gets no more samples: its cell is invalid anyway
            unsettled = [
                problem
                for problem, count in zip(unsettled, counts, strict=True)
                if not count.error and design.continues(n, count.correct)
            ]
            if not unsettled:
                break
        return [counted[problem.id] for problem in problems], samples.identity

    def sampled(
        self, evaluation: Evaluation, checkpoint: Checkpoint, per_problem: Sequence[int] = ()
    ) -> SampleSet:
        """Returns the checkpoint's samples after drawing those that are missing. `per_problem` is
        the number of samples of each problem; by default eval.samples."""
        with self._timed("sample"):
            samples = sample_sets.obtain(
                self.store, evaluation, checkpoint, self.sampler, self.progress, per_problem
            )
        self.drawn += samples.drawn
        return samples

    def exact(self, evaluation: Evaluation, checkpoint: Checkpoint) -> Floats | None:
        """Returns exact probabilities; None if the decoder draws trees or ends responses at texts,
        if the task cannot list every correct response, or if responses have thinking, which no
        list can have."""
        decoder = evaluation.decoder
        if decoder.tree_samples or decoder.stop or not evaluation.task.exhaustive:
            return None
        if evaluation.thinking(checkpoint):
            return None
        return exact.read(exact.obtain(self.store, evaluation, checkpoint))

    def at_forks(self, evaluation: Evaluation, checkpoint: Checkpoint) -> ForkProbabilities | None:
        """Returns the checkpoint's exact probabilities at the forks; None if the decoder has more
        settings than a temperature, if the task does not know its forks, or if responses have
        thinking."""
        decoder = evaluation.decoder
        if not decoder.is_plain or decoder.stop or evaluation.thinking(checkpoint):
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
            seconds = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


def _passed(config: EvalConfig, counts: list[ProblemCounts]) -> dict[str, list[float]]:
    if not config.validation_problems or any(row.error for row in counts):
        return {}
    ks = sorted({config.ks[0], config.ks[-1]})
    rows = estimate.pass_at(counts, ks).T.tolist()
    return {str(k): row for k, row in zip(ks, rows, strict=True)}


def _history(run: Artifact) -> list[dict[str, float]]:
    names = {"step": "step", "loss": "train_loss"} | {
        name: name for name in ("learning_rate", "grad_norm", "response_tokens_per_s", "memory_gib")
    }
    return [{shown: row[name] for name, shown in names.items()} for row in log.read_log(run.path)]
