"""The models of a study: told from its settings alone, whether or not they are made yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.forks import synthesis
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import SampleSet
from forkdiv.tasks.registry import build
from forkdiv.train import sft_run
from tuning.space import Point, at, points


@dataclass(frozen=True)
class Model:
    """A checkpoint under one decoder; `study` has the settings of its point of the grid."""

    name: str
    study: StudyConfig
    checkpoint: Checkpoint

    def samples(self, store: Store) -> SampleSet:
        """Where its samples are, or will be."""
        return sample_sets.planned(store, Evaluation.of(self.study), self.checkpoint)


def sweep_models(study: StudyConfig, base: Checkpoint, store: Store) -> Iterator[Model]:
    """The base and the ends of fine-tuning at every point of the study's grid."""
    for point in points(study):
        own = at(study, point)
        yield Model(point.name, own, tuned_checkpoint(own, base, store) if point.tuned else base)


def pair_models(study: StudyConfig, base: Checkpoint, other: Checkpoint) -> Iterator[Model]:
    """The base and one checkpoint that exists, under the study's own decoder."""
    for checkpoint, is_tuned in ((base, False), (other, True)):
        point = Point(study.decoder.temperature, study.sft.seed, tuned=is_tuned)
        yield Model(point.name, study, checkpoint)


def reported(models: Iterable[Model]) -> list[Model]:
    """Those that a report speaks of first: at the temperature nearest 1, of the first seed and,
    where the study varies decoders, under the first."""
    known = list(models)
    near = min((one.study.decoder.temperature for one in known), key=lambda t: (abs(t - 1), t))
    first: dict[str, Model] = {}
    for one in known:
        if one.study.decoder.temperature == near:
            first.setdefault(one.checkpoint.fingerprint, one)
    return list(first.values())


def tuned_checkpoint(study: StudyConfig, base: Checkpoint, store: Store) -> Checkpoint:
    """What fine-tuning the base under the study's own settings ends with."""
    data = dataset.sft_identity(build(study.task), study.dataset).fingerprint
    if study.dataset.synthesis != "none":
        data = synthesis.identity(study, data, base.fingerprint).fingerprint
    run = sft_run.identity(data, base.fingerprint, study.sft, study.prompt)
    return sft_run.planned(store, run, study.sft)
