"""Sample, score and compare two existing checkpoints on a file of problems, with a report.

    forkdiv compare --base CHECKPOINT --tuned CHECKPOINT --data FILE
    forkdiv compare --base DIR --tuned RUN --data FILE task.grader=math
    forkdiv compare --base DIR --tuned DIR --fail-if 'pass@64 < base - 0.02'

CHECKPOINT is any Hugging Face folder. RUN is the output folder of a training run with several
checkpoints (checkpoint-500, epoch-0003 …). Without --data, the problems come from the task in the
config.

--fail-if takes METRIC OP base, with + or - a number, or METRIC OP NUMBER. The metrics are pass@K,
majority@K, cover@TAU, g-pass@K_TAU, mg-pass@K, distinct@K and above-guess@K. The status is 3 if the
confidence limits show that a condition holds, else 4 if they cannot decide one, else 0. It is 1 if
a result cannot be trusted, and 2 if the input is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.models.checkpoint import saved_checkpoints
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from jobs.report import write_results
from tuning import fail_conditions, infer_settings, preflight
from tuning.comparison import Pair, asked_differently, run_comparison


def run(study: StudyConfig, fail_if: Sequence[str] = ()) -> int:
    """Returns the exit status that `fail_if` asks for."""
    if study.base is None or study.checkpoint is None:
        raise refuse(
            "compare needs two checkpoints",
            f"base={study.base}, tuned={study.checkpoint}",
            "two Hugging Face checkpoint folders",
            "set --base DIR and --tuned DIR",
        )
    unit, folders = saved_checkpoints(study.checkpoint)
    study, inferred = infer_settings.infer(
        study.model_copy(update={"sweep": type(study.sweep)()}), [study.base, *folders.values()]
    )
    if inferred:
        say(f"inferred settings: {'; '.join(inferred)}")
    task = build(study.task)
    conditions = fail_conditions.parse(fail_if, study, task.votes, (unit, tuple(folders)))
    base = preflight.check(study, takes_checkpoint=True)
    for warning in task.warnings:
        say(f"note: {warning}")
    tuned = {number: preflight.check_checkpoint(path, task) for number, path in folders.items()}
    for checkpoint in tuned.values():
        preflight.check_prompts(study, checkpoint.path, task)
    pair = Pair(base, tuned, unit)
    if difference := asked_differently(study, pair):
        say(f"note: {difference}")
    done = run_comparison(study, pair, say)
    write_results(study, done)
    return fail_conditions.report(conditions, done, study.folder, say)


if __name__ == "__main__":
    cli.run_job("compare")
