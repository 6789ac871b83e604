"""Sample, score and compare two existing checkpoints on a file of problems, with a report.

    forkdiv compare --base CHECKPOINT --tuned CHECKPOINT --data FILE
    forkdiv compare --base DIR --tuned RUN --data FILE task.grader=math
    forkdiv compare --base DIR --tuned DIR decoder.temperature=0.7

CHECKPOINT is any Hugging Face folder. RUN is the output folder of a training run with several
checkpoints (checkpoint-500, epoch-0003 …). Without --data, the problems come from the task in the
config.
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.models.checkpoint import saved_checkpoints
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from jobs.report import write_results
from tuning import infer_settings, preflight, prompt_notes
from tuning.comparison import Pair, asked_differently, run_comparison


def run(study: StudyConfig) -> None:
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
    base = preflight.check(study, takes_checkpoint=True)
    task = build(study.task)
    for warning in task.warnings:
        say(f"note: {warning}")
    tuned = {number: preflight.check_checkpoint(path, task) for number, path in folders.items()}
    for checkpoint in tuned.values():
        preflight.check_prompts(study, checkpoint.path, task)
    for note in prompt_notes.notes(study, [base.path, *folders.values()]):
        say(f"note: {note}")
    pair = Pair(base, tuned, unit)
    if difference := asked_differently(study, pair):
        say(f"note: {difference}")
    write_results(study, run_comparison(study, pair, say))


if __name__ == "__main__":
    cli.run_job("compare")
