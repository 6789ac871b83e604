"""Opens a study for a command that needs Ray: shows its progress, starts or joins Ray, makes the
base available to all nodes, and starts a sampler.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.progress import Event, Progress, progress_shown
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample.deployment import ServeSampler
from forkdiv.sample.sample_sets import SamplerClient
from tuning import session, tune_log
from tuning.resources import ALL, Work
from tuning.trial import NoSampler, Pipeline


@dataclass(frozen=True)
class OpenStudy:
    """An opened study; every node can read its base.

    `app` is the name of the sampler's Serve application, or None without a sampler. `seconds` has
    the start times of Ray and of the base.
    """

    study: StudyConfig
    base: Checkpoint
    progress: Progress
    store: Store
    app: str | None
    seconds: dict[str, float]

    @property
    def sampler(self) -> SamplerClient:
        """A client of the sampler; without a sampler, a client that raises InvalidResult."""
        return ServeSampler(self.app, self.study.place.engine) if self.app else NoSampler()

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline of the study."""
        return Pipeline(self.study, self.base, self.store, self.sampler, self.progress)

    def shared(self, checkpoint: Checkpoint) -> Checkpoint:
        """Returns another checkpoint in a folder that every node can read."""
        return session.share(self.study.place, checkpoint)


@contextmanager
def open_study(
    study: StudyConfig,
    base: Checkpoint,
    who: str,
    show: Callable[[str], None],
    work: Work = ALL,
    watch: Callable[[Event], None] = lambda event: None,
) -> Iterator[OpenStudy]:
    """Opens the study for the block; if `work` samples, a sampler starts in the background."""
    started = time.perf_counter()
    tune_log.shorten()
    with progress_shown(study, who, show, watch) as progress:
        progress("starting Ray")
        with session.running(study.place, work, progress) as place, _watched(place, progress):
            study = study.model_copy(update={"place": place})
            if address := session.dashboard(study.place):
                show(address)  # not into the progress file: it holds a token
            ready = time.perf_counter()
            study, base = session.prepare_base(study, base, progress)
            seconds = {"ray": ready - started, "base": time.perf_counter() - ready}
            store = Store.of(study.place)
            if not work.samples:
                yield OpenStudy(study, base, progress, store, None, seconds)
                return
            with session.sampler(study, base) as app:
                yield OpenStudy(study, base, progress, store, app, seconds)


def _watched(place: PlaceConfig, progress: Progress) -> AbstractContextManager[object]:
    """Reports lost hosts of a joined cluster while its block runs."""
    if place.ray_address is None:
        return nullcontext()
    from tuning.hosts import HostWatch  # for clusters only

    return HostWatch(Progress(progress.path, "cluster"))
