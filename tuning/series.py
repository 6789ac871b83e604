"""Checkpoints of one run that are measured one after the other, with one engine that stays loaded.

Which checkpoint is next may depend on the results so far: it may not exist yet (`watch`), or may
not be needed (`peak`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.results import Cell, Interval, Summary
from forkdiv.coverage.cells import ALL
from forkdiv.models.checkpoint import Checkpoint, check_tensors, share_engine
from forkdiv.sample.evaluation import Evaluation
from tuning.comparison import Pair, assembled, compared, identity
from tuning.open_study import open_study
from tuning.outcome import obtain_summary
from tuning.resources import Work
from tuning.space import Point
from tuning.study_record import StudyRecord
from tuning.trial import NoSampler, Pipeline, TrialResult


@dataclass
class Series:
    """The checkpoints that were measured so far, by step or epoch (`unit`).

    `share` returns a checkpoint in a folder that every node can read; `sources` is that of `Pair`.
    """

    pipeline: Pipeline
    unit: str
    share: Callable[[Checkpoint], Checkpoint]
    measured: dict[float, Checkpoint] = field(default_factory=dict)
    results: dict[float, TrialResult] = field(default_factory=dict)
    sources: dict[Path, Path] = field(default_factory=dict)

    @property
    def study(self) -> StudyConfig:
        return self.pipeline.study

    @property
    def evaluation(self) -> Evaluation:
        return Evaluation.of(self.study)

    @property
    def k(self) -> int:
        """The largest k that is measured."""
        return self.study.eval.ks[-1]

    def measure(self, number: float, checkpoint: Checkpoint) -> TrialResult:
        """Samples and scores one checkpoint, or finds its results in the store.

        Raises UserError if it cannot use the engine of the base.
        """
        base = self.pipeline.base
        if not share_engine(checkpoint.path, base.path):
            raise refuse(
                f"the checkpoint {checkpoint.path} has a different architecture than the base",
                "a different config.json",
                f"that of {base.path}, whose engine measures all checkpoints",
                "set base to the model that the checkpoint was fine-tuned from",
            )
        check_tensors(checkpoint.path, base.path)
        point = Point(self.study.decoder.temperature, self.study.sft.seed)
        shared = self.share(checkpoint)
        result = self.pipeline.compared(self.study, point, {number: shared})
        self.measured[number], self.results[number] = shared, result
        if source := self.sources.get(checkpoint.path):
            self.sources[shared.path] = source
        return result

    def restore(self, number: float, checkpoint: Checkpoint) -> TrialResult:
        """As `measure`, but only from the store: the checkpoint may be without its weights. Raises
        InvalidResult if samples are missing."""
        pipeline = replace(self.pipeline, sampler=NoSampler())
        point = Point(self.study.decoder.temperature, self.study.sft.seed)
        result = pipeline.compared(self.study, point, {number: checkpoint})
        self.measured[number], self.results[number] = checkpoint, result
        return result

    def value(self, number: float) -> Interval | None:
        """Returns pass@k of a measured checkpoint on all problems, at the largest k."""
        return all_problems(self.results[number]).pass_at[self.k]

    def change(self, number: float, other: float) -> Interval | None:
        """Returns the paired change of pass@k from the checkpoint `other` to `number`."""
        pipeline = replace(self.pipeline, base=self.measured[other], seconds={}, drawn=0)
        point = Point(self.study.decoder.temperature, self.study.sft.seed)
        result = pipeline.compared(self.study, point, {number: self.measured[number]})
        return all_problems(result).delta_to_base.get(self.k)

    def pair(self, chosen: float | None = None, notes: tuple[str, ...] = ()) -> Pair:
        """Returns what was measured; the latest checkpoint, or `chosen`, is compared with the base
        and the others show how it came about."""
        numbers = sorted(self.measured)
        latest = numbers[-1]
        if chosen is not None:
            numbers = [*(number for number in numbers if number != chosen), chosen]
        return Pair(
            self.pipeline.base,
            {number: self.measured[number] for number in numbers},
            self.unit,
            None if chosen in (None, latest) else chosen,
            dict(self.sources),
            notes,
        )

    def summary(self, pair: Pair) -> Summary:
        """Returns the summary of what is measured so far, from the results of `measure` and
        `restore`: the cells of a long run are not computed again with each checkpoint."""
        *earlier, last = pair.tuned
        dynamics = [
            _without_listed(cell) for number in earlier for cell in self.results[number].cells
        ]
        trials = [self._of_base, replace(self.results[last], dynamics=dynamics)]
        fingerprint = identity(self.study, pair).fingerprint
        return assembled(self.study, pair, fingerprint, trials, self.pipeline.seconds)

    @cached_property
    def _of_base(self) -> TrialResult:
        pipeline = replace(self.pipeline, sampler=NoSampler(), seconds={}, drawn=0)
        untrained = Point(self.study.decoder.temperature, self.study.sft.seed, tuned=False)
        return pipeline.compared(self.study, untrained, {0: pipeline.base})

    def finished(
        self, pair: Pair, seconds: Mapping[str, float], show: Callable[[str], None]
    ) -> Summary:
        """Returns the final summary; stores it, and writes it to MLflow and the study's folder."""
        summary_identity = identity(self.study, pair)

        def make() -> Summary:
            record = StudyRecord(self.study, summary_identity.fingerprint)
            record.start(show)
            pipeline = replace(self.pipeline, sampler=NoSampler(), seconds={}, drawn=0)
            trials = list(compared(pipeline, pair.tuned))
            record.compared(trials, show)
            return assembled(self.study, pair, summary_identity.fingerprint, trials, dict(seconds))

        return obtain_summary(self.study, summary_identity, make, show)


@contextmanager
def open_series(
    study: StudyConfig, base: Checkpoint, unit: str, show: Callable[[str], None]
) -> Iterator[Series]:
    """Opens a series for the block, with an engine for the base, which is measured first."""
    with open_study(study, base, "compare", show, Work(trains=False)) as work:
        pipeline = replace(work.pipeline, study=study)
        yield Series(pipeline, unit, work.shared)


def all_problems(result: TrialResult) -> Cell:
    """Returns the cell of all problems."""
    return next(cell for cell in result.cells if cell.subset == ALL)


def _without_listed(cell: Cell) -> Cell:
    """Returns the cell without its lists of problems, which only the last checkpoint has."""
    if cell.shrinkage is None:
        return cell
    shrinkage = cell.shrinkage.model_copy(update={"lost": (), "gained": ()})
    return cell.model_copy(update={"shrinkage": shrinkage})


class GrowingTable:
    """A table on the terminal that gets a row with each measured checkpoint."""

    def __init__(self, series: Series, show: Callable[[str], None]) -> None:
        self._series, self._show = series, show
        self._is_empty = True

    def add(self, number: float, result: TrialResult) -> None:
        """Shows the row of a checkpoint, after the header if it is the first."""
        cell = all_problems(result)
        ks = sorted({min(cell.pass_at), max(cell.pass_at)})
        if self._is_empty:
            titles = [f"pass@{k} (change from the base)" for k in ks]
            self._show(self._row(self._series.unit, titles))
        self._is_empty = False
        self._show(self._row(f"{number:g}", [_entry(cell, k) for k in ks]))

    @staticmethod
    def _row(first: str, entries: list[str]) -> str:
        return f"{first:>10}" + "".join(f"{entry:>36}" for entry in entries)


def _entry(cell: Cell, k: int) -> str:
    value, change = cell.pass_at[k], cell.delta_to_base.get(k)
    if value is None:
        return "invalid"
    return f"{value.value:.3f}" + (f" ({interval_text(change)})" if change else "")


def interval_text(change: Interval) -> str:
    """Returns a change with its limits: `-0.030 [-0.080, +0.020]`."""
    return f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
