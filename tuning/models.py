"""The models of a study, from its settings; they may not exist yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from forkdiv.core.config.study import StudyConfig
from forkdiv.core.fingerprint import Identity
from forkdiv.core.store import Store
from forkdiv.data import dataset
from forkdiv.forks import synthesis
from forkdiv.learnability import stage
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.thinking import opening_tag
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import SampleSet
from forkdiv.tasks.registry import build
from forkdiv.train import sft_run
from tuning.space import Point, at, points


@dataclass(frozen=True)
class Model:
    """A checkpoint with one decoder; `study` has the settings of its grid point."""

    name: str
    study: StudyConfig
    checkpoint: Checkpoint

    def samples(self, store: Store) -> SampleSet:
        """Returns the model's sample set, which may not exist yet."""
        return sample_sets.planned(store, Evaluation.of(self.study), self.checkpoint)


def sweep_models(study: StudyConfig, base: Checkpoint, store: Store) -> Iterator[Model]:
    """Yields the model of every point of the study's grid: the base, or a tuned checkpoint."""
    for point in points(study):
        trial_study = at(study, point)
        checkpoint = tuned_checkpoint(trial_study, base, store) if point.tuned else base
        yield Model(point.name, trial_study, checkpoint)


def pair_models(study: StudyConfig, base: Checkpoint, other: Checkpoint) -> Iterator[Model]:
    """Yields the base and one existing checkpoint, with the study's decoder."""
    for checkpoint, is_tuned in ((base, False), (other, True)):
        point = Point(study.decoder.temperature, study.sft.seed, tuned=is_tuned)
        yield Model(point.name, study, checkpoint)


def reported(models: Iterable[Model]) -> list[Model]:
    """Returns the models that a report shows first: with the temperature nearest 1, the first seed
    and the first decoder."""
    models = list(models)
    temperatures = {model.study.decoder.temperature for model in models}
    nearest = min(temperatures, key=lambda t: (abs(t - 1), t))
    first: dict[str, Model] = {}
    for model in models:
        if model.study.decoder.temperature == nearest:
            first.setdefault(model.checkpoint.fingerprint, model)
    return list(first.values())


def tuned_checkpoint(study: StudyConfig, base: Checkpoint, store: Store) -> Checkpoint:
    """Returns the last checkpoint of fine-tuning the base with the study's settings; it may not
    exist yet."""
    run = training_identity(study, base)
    return sft_run.planned(store, run, study.sft, base.token_files)


def training_identity(study: StudyConfig, base: Checkpoint) -> Identity:
    """Returns the identity of fine-tuning the base with the study's settings."""
    data = data_identity(study, base).fingerprint
    opening = opening_tag(base.token_files, study.prompt)
    prompt = study.prompt.without_shots
    table = stage.identity(study, data, base).fingerprint if study.reads_table else None
    return sft_run.identity(data, base.fingerprint, study.sft, prompt, opening, table)


def data_identity(study: StudyConfig, base: Checkpoint) -> Identity:
    """Returns the identity of the study's fine-tuning data, with synthesized solutions if
    dataset.synthesis is set."""
    plain = dataset.sft_identity(build(study.task), study.dataset)
    if study.dataset.synthesis == "none":
        return plain
    thinking = Evaluation.of(study).thinking(base)
    return synthesis.identity(study, plain.fingerprint, base.fingerprint, thinking)
