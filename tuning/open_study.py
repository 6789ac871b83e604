"""A study opened for work: its progress shown, Ray running, its base in reach, a sampler starting.

Every verb that needs Ray opens its study here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Event, Progress, progress_shown
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.deployment import ServeSampler
from forkdiv.sample.sample_sets import SamplerClient
from tuning import session
from tuning.trial import NoSampler, Pipeline


@dataclass(frozen=True)
class OpenStudy:
    """The study with its base where every node can read it, and what works on it.

    `app` is the name of the sampler's Serve application, None where there is none. `seconds` are
    those that Ray and the base took.
    """

    study: StudyConfig
    base: Checkpoint
    progress: Progress
    store: Store
    app: str | None
    seconds: dict[str, float]

    @property
    def sampler(self) -> SamplerClient:
        """Draws samples; without an application it raises InvalidResult where one is asked for."""
        return ServeSampler(self.app, self.study.place.engine) if self.app else NoSampler()

    @property
    def pipeline(self) -> Pipeline:
        """The stages, bound to the study."""
        return Pipeline(self.study, self.base, self.store, self.sampler, self.progress)

    def shared(self, checkpoint: Checkpoint) -> Checkpoint:
        """Another checkpoint, where every node can read it."""
        return session.share(self.study.place, checkpoint)


@contextmanager
def open_study(
    study: StudyConfig,
    base: Checkpoint,
    who: str,
    show: Callable[[str], None],
    samples: bool = True,
    watch: Callable[[Event], None] = lambda event: None,
) -> Iterator[OpenStudy]:
    """The study opened for the block; with `samples` a sampler starts in the background."""
    started = time.perf_counter()
    with progress_shown(study, who, show, watch) as progress:
        progress("starting Ray")
        with session.running(study.place):
            if address := session.dashboard(study.place):
                show(address)  # not into the progress file: it holds a token
            ready = time.perf_counter()
            study, base = session.prepare_base(study, base, progress)
            seconds = {"ray": ready - started, "base": time.perf_counter() - ready}
            store = Store.of(study.place)
            if not samples:
                yield OpenStudy(study, base, progress, store, None, seconds)
                return
            with session.sampler(study, base) as app:
                yield OpenStudy(study, base, progress, store, app, seconds)
