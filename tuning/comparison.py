"""Two checkpoints that exist, compared: sample both, score both, one summary.

The tuned one may be a whole run: a folder of checkpoints saved one after the other. Then the last
is compared, and the earlier ones show when coverage was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress, progress_shown
from forkdiv.core.results import CheckpointPaths, Summary
from forkdiv.core.store import Store
from forkdiv.coverage import summary
from forkdiv.models.checkpoint import Checkpoint, same_shape
from forkdiv.sample.evaluation import Evaluation
from tuning.outcome import obtain_summary, parent_run
from tuning.space import Point


@dataclass(frozen=True)
class Pair:
    """The base, and the tuned checkpoints by the number they were saved under."""

    base: Checkpoint
    tuned: Mapping[float, Checkpoint]
    unit: str  # what the numbers count: epoch or step

    @property
    def engines(self) -> list[list[Checkpoint]]:
        """The checkpoints, those that one engine can hold together."""
        groups: list[list[Checkpoint]] = []
        for one in [self.base, *self.tuned.values()]:
            mine = next((g for g in groups if same_shape(one.path, g[0].path)), None)
            if mine is None:
                groups.append(mine := [])
            mine.append(one)
        return groups


def identity(study: StudyConfig, pair: Pair) -> Identity:
    """Of the comparison's summary."""
    whole = summary.identity(study, pair.base)
    tuned = {f"tuned-{number}": one.fingerprint for number, one in pair.tuned.items()}
    return Identity("study", whole.config, {**whole.parents, **tuned})


def run_comparison(study: StudyConfig, pair: Pair, show: Callable[[str], None]) -> Summary:
    """The comparison's summary, found where it is done, else made; also written to its folder."""
    what = identity(study, pair)
    return obtain_summary(study, what, lambda: _run(study, pair, what.fingerprint, show), show)


def _run(study: StudyConfig, pair: Pair, fingerprint: str, show: Callable[[str], None]) -> Summary:
    # after the checks and the look into the store: Ray's imports take seconds
    from tuning import session
    from tuning.record import record
    from tuning.trial import NoSampler, Pipeline

    started = time.perf_counter()
    store = Store.of(study.place)
    with progress_shown(study, "compare", show) as progress, session.running(study.place):
        shared = {
            one.fingerprint: session.share(study.place, one)
            for one in [pair.base, *pair.tuned.values()]
        }
        for group in pair.engines:
            _sample(study, [shared[one.fingerprint] for one in group], store, progress)
    base = shared[pair.base.fingerprint]
    tuned = {number: shared[one.fingerprint] for number, one in pair.tuned.items()}
    parent = parent_run(study, fingerprint)
    pipeline = Pipeline(study, base, store, NoSampler(), progress)
    trials = []
    both: tuple[tuple[Point, Mapping[float, Checkpoint]], ...] = (
        (Point(study.decoder.temperature, study.sft.seed, tuned=False), {0: base}),
        (Point(study.decoder.temperature, study.sft.seed), tuned),
    )
    for point, checkpoints in both:
        begun = time.time()
        trials.append(pipeline.compared(study, point, checkpoints))
        record(study, trials[-1], parent, "tuned" if point.tuned else "base", begun)
    seconds = {**pipeline.seconds, "total": time.perf_counter() - started}
    paths = {str(number): str(one.path) for number, one in pair.tuned.items()}
    return summary.assemble(
        study,
        fingerprint,
        (),
        [trial.cells for trial in trials],
        seconds,
        dynamics=[cell for trial in trials for cell in trial.dynamics],
        unit=pair.unit,
        checkpoints=CheckpointPaths(base=str(pair.base.path), tuned=paths),
    )


def _sample(
    study: StudyConfig, checkpoints: list[Checkpoint], store: Store, progress: Progress
) -> None:
    """Draw every checkpoint's samples from one engine, which starts for the first of them."""
    from forkdiv.sample.deployment import ServeSampler
    from tuning import session
    from tuning.trial import Pipeline

    first = checkpoints[0]
    own = study.model_copy(update={"base": first.path})
    evaluation = Evaluation.of(study)
    with session.sampler(own, first) as app:
        sampler = ServeSampler(app, study.place.engine)
        pipeline = Pipeline(study, first, store, sampler, progress)
        for checkpoint in checkpoints:
            pipeline.sampled(evaluation, checkpoint).require_complete()
