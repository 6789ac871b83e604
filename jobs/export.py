"""Write existing samples and results in the file format of lm-evaluation-harness, by model.

    forkdiv export --config quickstart
    forkdiv export --base CHECKPOINT --tuned CHECKPOINT --data FILE
    forkdiv export checkpoint=DIR base=DIR

The first command exports every model of a study, the second the models of `compare`, the third the
models of `evaluate`; each model has its own folder. Use the settings with which the samples were
drawn. No samples are drawn, and Ray is not started. `forkdiv coverage --samples FOLDER --base
FOLDER` on these folders gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.records import Problem
from forkdiv.core.store import Store, check_place
from forkdiv.models.saved import saved_checkpoints
from forkdiv.sample.evaluation import Evaluation
from forkdiv.sample.sample_sets import SampleSet
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning import infer_settings, preflight
from tuning.adapters import with_merged
from tuning.models import Model, pair_models, sweep_models


def run(study: StudyConfig) -> None:
    from forkdiv.lm_eval.run import Run, prompt_text
    from forkdiv.lm_eval.writing import write

    store = Store.of(study.place)
    models = models_of(study, store)
    evaluation = Evaluation.of(models[0].study)
    eval, task, problems = evaluation.config, evaluation.task, evaluation.problems
    exports = [(model, _samples_of(model, store, problems)) for model in models]
    check_place(study.place)
    for model, samples in exports:
        run_info = Run(
            task=task.config.kind,
            model=model.name,
            checkpoint=str(model.checkpoint.path),
            decoder=model.study.decoder,
            n=eval.samples,
            ks=eval.ks,
            created=_last_drawn(samples),
            prompt=lambda prompt: prompt_text(evaluation.asked(prompt)),
        )
        portions = samples.portions(eval.samples)
        thinking = Evaluation.of(model.study).thinking(model.checkpoint)
        folder = study.folder / "harness"
        written = write(folder, run_info, task, problems, portions, thinking)
        say(f"{model.name}: {written}")


def models_of(study: StudyConfig, store: Store) -> list[Model]:
    """Returns the base and the setting `checkpoint` if it is set, otherwise all models of the
    study's grid."""
    if study.checkpoint is None:
        return list(sweep_models(study, preflight.check_base(study, build(study.task)), store))
    *_, last = saved_checkpoints(study.checkpoint, study.checkpoint_pattern)[1].values()
    study = with_merged(study.model_copy(update={"checkpoint": last}), say)
    assert study.checkpoint
    last = study.checkpoint
    checkpoints = [*([study.base] if study.base else []), last]
    study, _ = infer_settings.infer(study, checkpoints)
    task = build(study.task)
    base = preflight.check_base(study, task)
    return list(pair_models(study, base, preflight.check_checkpoint(last, task)))


def _samples_of(model: Model, store: Store, problems: Sequence[Problem]) -> SampleSet:
    """Returns the model's samples. Raises UserError if samples are missing."""
    samples, n = model.samples(store), model.study.eval.samples
    stored, complete = samples.stored_indices(), (1 << n) - 1  # index i is bit i
    missing = [problem.id for problem in problems if complete & ~stored.get(problem.id, 0)]
    if missing:
        raise refuse(
            f"samples of {model.name} are missing",
            f"fewer than {n} samples for {len(missing):,} of {len(problems):,} problems: "
            f"{', '.join(missing[:3])}{' …' if missing[3:] else ''}, in {samples.path}",
            f"{n} samples of every problem, drawn with these settings",
            "run `forkdiv study` (or `compare`, `evaluate`) with the same settings first",
        )
    return samples


def _last_drawn(samples: SampleSet) -> datetime:
    """Returns the time of the last sample. File names contain it, so that a repeated export of the
    same samples writes the same names."""
    return datetime.fromtimestamp(max(part.stat().st_mtime for part in samples.parts), UTC)


if __name__ == "__main__":
    cli.run_job("export")
