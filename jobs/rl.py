"""Train a checkpoint by reinforcement learning (GRPO).

forkdiv rl checkpoint=DIR rl.learning_rate=1e-6 rl.iterations=400
forkdiv rl rl.learning_rate=3e-4 rl.save_every=50 dataset.examples=800

It starts from `checkpoint`, otherwise from the base. Prompts are training problems that the data of
`dataset` does not have; the task's grader gives the rewards. The checkpoints are folders that
`compare`, `serve` and `evaluate` read.
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.terminal import say
from forkdiv.tracking.address import Address
from tuning import preflight, prompt_notes, rl_checks
from tuning.adapters import with_merged
from tuning.resources import Work


def run(study: StudyConfig) -> None:
    from forkdiv.rl import rl_run
    from tuning import rl_record
    from tuning.open_study import open_study

    study = rl_checks.on_one_worker(with_merged(study, say))
    base = preflight.check(study, takes_checkpoint=True, measures=False)
    given = preflight.check_study_checkpoint(study, base)
    start = given or base
    for note in prompt_notes.notes(study, [start.path]):
        say(f"note: {note}")
    Address.of(study.place)  # raises UserError for an address that MLflow cannot use
    inputs = rl_checks.inputs(study, start)
    with open_study(study, base, "rl", say, Work()) as work:
        rl_checks.check_beside(work.study.place)
        shared = work.shared(start) if given else work.base
        inputs = rl_checks.inputs(work.study, shared)
        with rl_record.recording(work.study, inputs, work.store, say):
            run = rl_run.obtain(work.store, work.study, inputs, work.app, work.progress)
    for iteration, checkpoint in rl_run.checkpoints(run).items():
        say(f"iteration {iteration}: {checkpoint.path}")
    say(f"log and episodes: {run.path}")


if __name__ == "__main__":
    cli.run_job("rl")
