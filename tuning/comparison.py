"""Compares two existing checkpoints: samples and scores both, and writes one summary.

The tuned checkpoint may also be a run, a folder with the checkpoints that one training saved. Then
the last checkpoint is compared with the base, and the earlier ones show when coverage was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress, progress_shown
from forkdiv.core.results import CheckpointPaths, Summary
from forkdiv.core.store import Store
from forkdiv.coverage import summary
from forkdiv.models import asked
from forkdiv.models.checkpoint import Checkpoint, share_engine
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.registry import build
from tuning.outcome import obtain_summary
from tuning.resources import Work
from tuning.space import Point

if TYPE_CHECKING:
    from tuning.trial import Pipeline, TrialResult


@dataclass(frozen=True)
class Pair:
    """The base, and the tuned checkpoints by the epoch or step at which they were saved.

    The last of them is compared with the base: `chosen`, if that is not the latest. `sources` maps
    the folders of merged adapters to those of the adapters; `notes` are shown in the report.
    """

    base: Checkpoint
    tuned: Mapping[float, Checkpoint]
    unit: str  # of the numbers: epoch or step
    chosen: float | None = None
    sources: Mapping[Path, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> CheckpointPaths:
        """The folders as the user named them."""
        tuned = {
            str(number): str(self.sources.get(checkpoint.path, checkpoint.path))
            for number, checkpoint in self.tuned.items()
        }
        return CheckpointPaths(
            base=str(self.sources.get(self.base.path, self.base.path)), tuned=tuned
        )

    @property
    def engines(self) -> list[list[Checkpoint]]:
        """The checkpoints, grouped by engine: a group has one architecture."""
        groups: list[list[Checkpoint]] = []
        for checkpoint in [self.base, *self.tuned.values()]:
            matching = (group for group in groups if share_engine(checkpoint.path, group[0].path))
            group = next(matching, None)
            if group is None:
                groups.append(group := [])
            group.append(checkpoint)
        return groups


def asked_differently(study: StudyConfig, pair: Pair) -> str | None:
    """Returns a line about what the base and the last tuned checkpoint are asked differently; None
    if they see the same token ids and stop at the same tokens."""
    *_, tuned = pair.tuned.values()
    evaluation = Evaluation.of(study)
    prompts = evaluation.probes
    found = asked.differences(pair.base.path, tuned.path, prompts, evaluation.prompt)
    if not found:
        return None
    line = (
        "the base and the tuned checkpoint are each asked in their own way; they differ in "
        f"{' and '.join(found)}"
    )
    if asked.TEMPLATES in found:
        line += (
            f"; prompt.template=chat prompt.chat_template={tuned.path} asks both with the tuned "
            "one's template"
        )
    return line


def identity(study: StudyConfig, pair: Pair) -> Identity:
    """Returns the identity of the comparison's summary."""
    whole = summary.identity(study, pair.base)
    tuned = {f"tuned-{number}": tuned.fingerprint for number, tuned in pair.tuned.items()}
    evaluation = Evaluation.of(study)
    further: dict[str, object] = {
        f"thinking-{number}": own.as_json()
        for number, checkpoint in pair.tuned.items()
        if (own := evaluation.thinking(checkpoint))
    }
    if pair.chosen is not None:
        further["chosen"] = pair.chosen
    return Identity("study", {**whole.config, **further}, {**whole.parents, **tuned})


def run_comparison(study: StudyConfig, pair: Pair, show: Callable[[str], None]) -> Summary:
    """Returns the comparison's summary, from the store or newly computed; writes it to the study's
    folder."""
    summary_identity = identity(study, pair)
    return obtain_summary(
        study, summary_identity, lambda: _run(study, pair, summary_identity.fingerprint, show), show
    )


def _run(study: StudyConfig, pair: Pair, fingerprint: str, show: Callable[[str], None]) -> Summary:
    # imported after the checks and the look-up in the store, because Ray's imports take seconds
    from tuning import session
    from tuning.study_record import StudyRecord
    from tuning.trial import NoSampler, Pipeline

    started = time.perf_counter()
    record = StudyRecord(study, fingerprint)
    store = Store.of(study.place)
    work = Work(trains=False)
    with (
        progress_shown(study, "compare", show) as progress,
        record.running(progress),
        session.running(study.place, work) as place,
    ):
        study = study.model_copy(update={"place": place})
        shared = {
            checkpoint.fingerprint: session.share(study.place, checkpoint)
            for checkpoint in [pair.base, *pair.tuned.values()]
        }
        for group in pair.engines:
            in_group = [shared[checkpoint.fingerprint] for checkpoint in group]
            _sample(study, in_group, store, progress)
    base = shared[pair.base.fingerprint]
    tuned = {number: shared[tuned.fingerprint] for number, tuned in pair.tuned.items()}
    pipeline = Pipeline(study, base, store, NoSampler(), progress)
    trials = list(compared(pipeline, tuned))
    record.compared(trials, show)
    seconds = {**pipeline.seconds, "total": time.perf_counter() - started}
    return assembled(study, pair, fingerprint, trials, seconds)


def compared(pipeline: Pipeline, tuned: Mapping[float, Checkpoint]) -> Iterator[TrialResult]:
    """Yields the result of the pipeline's base, and that of the tuned checkpoints, of which the
    last is the model and the others are its dynamics."""
    study = pipeline.study
    untrained = Point(study.decoder.temperature, study.sft.seed, tuned=False)
    yield pipeline.compared(study, untrained, {0: pipeline.base})
    yield pipeline.compared(study, Point(study.decoder.temperature, study.sft.seed), tuned)


def assembled(
    study: StudyConfig,
    pair: Pair,
    fingerprint: str,
    trials: Sequence[TrialResult],
    seconds: Mapping[str, float],
) -> Summary:
    """Returns the summary of a pair from the results that `compared` yields."""
    difference = asked_differently(study, pair)
    return summary.assemble(
        study,
        fingerprint,
        (),
        [trial.cells for trial in trials],
        seconds,
        dynamics=[cell for trial in trials for cell in trial.dynamics],
        unit=pair.unit,
        notes=[*build(study.task).notes, *pair.notes, *([difference] if difference else [])],
        checkpoints=pair.paths,
    )


def _sample(
    study: StudyConfig, checkpoints: list[Checkpoint], store: Store, progress: Progress
) -> None:
    """Draws the samples of all checkpoints with one engine, started for the first checkpoint."""
    from forkdiv.sample.deployment import ServeSampler
    from tuning import session
    from tuning.trial import Pipeline

    first = checkpoints[0]
    engine_study = study.model_copy(update={"base": first.path})
    evaluation = Evaluation.of(study)
    with session.sampler(engine_study, first) as app:
        sampler = ServeSampler(app, study.place.engine)
        pipeline = Pipeline(study, first, store, sampler, progress)
        for checkpoint in checkpoints:
            pipeline.sampled(evaluation, checkpoint).require_complete()
