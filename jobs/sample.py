"""Sample one checkpoint (`checkpoint=DIR`, otherwise the base) on the held-out problems.

forkdiv sample checkpoint=DIR decoder.temperature=0.7
forkdiv sample checkpoint=runs/store/train/FINGERPRINT/epoch-0004
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.sample import sample_sets
from forkdiv.sample.evaluation import Evaluation
from forkdiv.terminal import say
from tuning import preflight, prompt_notes, row_lengths
from tuning.adapters import with_merged
from tuning.resources import Work


def run(study: StudyConfig) -> None:
    from tuning.open_study import open_study

    study = with_merged(study, say)
    base = preflight.check(study, takes_checkpoint=True)
    study_checkpoint = preflight.check_study_checkpoint(study, base)
    asked = study_checkpoint or base
    for note in prompt_notes.notes(study, [asked.path]):
        say(f"note: {note}")
    study = row_lengths.fitting(study, [asked.path], trains=False, show=say)
    evaluation = Evaluation.of(study)
    with open_study(study, base, "sample", say, Work(trains=study.base is None)) as work:
        checkpoint = work.shared(study_checkpoint) if study_checkpoint else work.base
        samples = sample_sets.obtain(
            work.store, evaluation, checkpoint, work.sampler, work.progress
        )
    say(f"samples: {samples.path}")
    samples.require_complete()


if __name__ == "__main__":
    cli.run_job("sample")
