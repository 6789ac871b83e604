"""What a study would do: its trials, what of it exists already, and an estimate of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import duration
from forkdiv.core.store import Store
from forkdiv.coverage import summary
from forkdiv.learnability.stage import identity as table_identity
from forkdiv.learnability.table import epochs as table_epochs
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.registry import build
from forkdiv.terminal import show_table
from forkdiv.train import schedule, sft_run
from tuning.measured_rates import Rate, Rates, measured
from tuning.models import data_identity, training_identity
from tuning.space import Point, at, points
from tuning.trial_results import TrialResults

HEADER = ("stage", "needed", "in the store", "to do", "hours", "GPU hours")
SHOWN_TRIALS = 20


@dataclass
class Stage:
    """One kind of work of all trials: distinct results by fingerprint, with the items (examples,
    samples) that each still needs; 0 for a result that exists."""

    name: str
    unit: str
    left: dict[str, float] = field(default_factory=dict)

    def add(self, fingerprint: str, left: float) -> None:
        """Adds a result; one that several trials share counts once, with the larger rest."""
        self.left[fingerprint] = max(left, self.left.get(fingerprint, 0.0))

    @property
    def there(self) -> int:
        return sum(not left for left in self.left.values())

    @property
    def items(self) -> float:
        return sum(self.left.values())

    def hours(self, rate: Rate | None) -> float | None:
        """Returns the estimated hours; None if nothing was measured."""
        if not self.items:
            return 0.0
        return self.items / rate.per_second / 3600 if rate else None


@dataclass(frozen=True)
class DryRun:
    """The stages of a study, and what they are expected to take."""

    study: StudyConfig
    grid: Sequence[Point]
    kept: int
    data: Stage
    training: Stage
    sampling: Stage
    rates: Rates

    @property
    def hours(self) -> float | None:
        """The sum over the stages; trainings of several trials at once share it."""
        parts = [
            self.training.hours(self.rates.training),
            self.sampling.hours(self.rates.sampling),
        ]
        if any(part is None for part in parts):
            return None
        training, sampling = (part or 0.0 for part in parts)
        at_once = min(self.study.place.max_concurrent_trials, max(len(self.training.left), 1))
        return training / at_once + sampling

    def gpu_hours(self, hours: float | None, gpus: float) -> float | None:
        """Returns GPU hours; 0 where a CPU does the work."""
        if self.study.place.device == "cpu":
            return 0.0
        return None if hours is None else hours * gpus


def dry_run(study: StudyConfig, base: Checkpoint) -> DryRun:
    """Returns the plan of a study, from its settings and the store; computes and starts nothing."""
    store = Store.of(study.place)
    data, training = Stage("dataset", "examples"), Stage("training", "examples")
    sampling = Stage("sampling", "samples")
    grid = points(study)
    for point in grid:
        own = at(study, point)
        if point.tuned:
            made = data_identity(own, base)
            data.add(made.fingerprint, 0 if store.has(made) else 1)
            run = training_identity(own, base)
            training.add(run.fingerprint, 0 if store.has(run) else _examples(own))
            if own.reads_table:  # its short runs are trainings too
                table = table_identity(own, made.fingerprint, base)
                short = table_epochs(own.learnability) * _problems(own)
                training.add(table.fingerprint, 0 if store.has(table) else short)
        for checkpoint in _measured(own, point, base, store):
            wanted = Evaluation.of(own)
            samples = sample_sets.planned(store, wanted, checkpoint)
            total = len(wanted.asked_problems) * wanted.config.samples
            there = sum(index.bit_count() for index in samples.stored_indices().values())
            sampling.add(samples.identity.fingerprint, max(total - there, 0))
    results = TrialResults.of(study, summary.identity(study, base).fingerprint)
    kept = sum(results.has_valid(point) for point in grid)
    rates = measured(study.place, base)
    return DryRun(study, grid, kept, data, training, sampling, rates)


def show(plan: DryRun, say: Callable[[str], None]) -> None:
    """Prints the plan."""
    of_base = sum(not point.tuned for point in plan.grid)
    say(
        f"{len(plan.grid)} trials: {of_base} of the base, {len(plan.grid) - of_base} of fine-tuned "
        f"models; {plan.kept} have finished before and are kept"
    )
    for point in plan.grid[:SHOWN_TRIALS]:
        say(f"  {point.name}")
    if len(plan.grid) > SHOWN_TRIALS:
        say(f"  … and {len(plan.grid) - SHOWN_TRIALS} more")
    if plan.study.sweep.search == "optuna":
        say("  search=optuna will choose other values; these are drawn from the same axes")
    if plan.study.sweep.search == "optuna":
        say(
            "Optuna chooses the trials from results; this plan has drawn ones in their place, from "
            "the same axes"
        )
    show_table(
        HEADER, list(_rows(plan)), title=f"{plan.study.name}: what is shared and what exists"
    )
    for line in _basis(plan):
        say(line)


def _rows(plan: DryRun) -> Iterator[list[str]]:
    place, engine = plan.study.place, plan.study.place.engine
    gpus = {
        "training": float(place.workers),
        "sampling": float(engine.replicas * engine.tensor_parallel),
    }
    rates: Mapping[str, Rate | None] = {
        "training": plan.rates.training,
        "sampling": plan.rates.sampling,
    }
    for stage in (plan.data, plan.training, plan.sampling):
        is_timed = stage.name in rates
        hours = stage.hours(rates[stage.name]) if is_timed else 0.0
        gpu_hours = plan.gpu_hours(hours, gpus[stage.name]) if is_timed else 0.0
        work = f" ({stage.items:,.0f} {stage.unit})" if is_timed and stage.items else ""
        yield [
            stage.name,
            str(len(stage.left)),
            str(stage.there),
            f"{len(stage.left) - stage.there}{work}",
            _hours(hours),
            _hours(gpu_hours),
        ]


def _basis(plan: DryRun) -> Iterator[str]:
    total = f"about {duration(plan.hours * 3600)}" if plan.hours is not None else "unknown"
    yield (
        f"estimated time: {total}, without starting Ray and the engine, scoring and the report "
        f"(place.max_concurrent_trials={plan.study.place.max_concurrent_trials})"
    )
    for stage, rate in ((plan.training, plan.rates.training), (plan.sampling, plan.rates.sampling)):
        if rate:
            runs = f"{rate.runs} earlier run{'s' * (rate.runs > 1)}"
            yield f"{stage.name}: {rate.per_second:,.3g} {stage.unit} per second in {runs}"
        elif stage.items:
            yield f"{stage.name}: unknown, since none with this base is in {plan.study.place.root}"
    yield "memory and steps of one training: `forkdiv plan` with the same settings"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "unknown"
    return "0" if not hours else f"{hours:.2g}"


def _measured(
    study: StudyConfig, point: Point, base: Checkpoint, store: Store
) -> Iterator[Checkpoint]:
    """Yields the checkpoints that a trial samples: the base, and those that its training saves, or
    their interpolation with the base."""
    yield base
    if not point.tuned:
        return
    run = training_identity(study, base)
    if study.interpolation != 1:
        from forkdiv.models import interpolate

        late = sft_run.planned(store, run, study.sft, base.token_files)
        between = interpolate.identity(base, late, study.interpolation)
        yield Checkpoint(store.path(between), between.fingerprint, base.token_files)
        return
    for save in schedule.retained(_problems(study), study.sft):
        yield sft_run.planned_save(store, run, save.name, base.token_files)


def _problems(study: StudyConfig) -> int:
    """Returns the number of training examples, as far as it is known before synthesis."""
    return build(study.task).examples(study.dataset)


def _examples(study: StudyConfig) -> float:
    """Returns the examples that a training reads, each once per epoch, in whole batches."""
    steps = schedule.steps_per_epoch(_problems(study), study.sft)
    return float(steps * study.sft.epochs * study.sft.batch_size)
