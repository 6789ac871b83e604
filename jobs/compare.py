"""Sample, score and compare two existing checkpoints on a file of problems, with a report.

    forkdiv compare --base CHECKPOINT --tuned CHECKPOINT --data FILE
    forkdiv compare --base DIR --tuned RUN --search --data FILE
    forkdiv compare --base DIR --watch RUN --data FILE
    forkdiv compare --base DIR --tuned DIR --fail-if 'pass@64 < base - 0.02'

CHECKPOINT is any Hugging Face folder, or the folder of a LoRA adapter that PEFT saved. RUN is the
output folder of a training run with several checkpoints (checkpoint-500, epoch-0003 …);
--checkpoints 'step-*' picks some of them. --search measures only as many as it takes to find the
one with the largest pass@k; --watch measures each one when the trainer has written it, until the
training ends or Ctrl-C is pressed. Without --data, the problems come from the task in the config.

--fail-if takes METRIC OP base, with + or - a number, or METRIC OP NUMBER. The metrics are pass@K,
majority@K, cover@TAU, g-pass@K_TAU, mg-pass@K, distinct@K and above-guess@K. The status is 3 if the
confidence limits show that a condition holds, else 4 if they cannot decide one, else 0. It is 1 if
a result cannot be trusted, and 2 if the input is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.coverage.conditions import Condition
from forkdiv.models.adapter.config import has_adapter
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.saved import saved_checkpoints
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from jobs.report import write_results
from tuning import adapters, fail_conditions, infer_settings, preflight, prompt_notes
from tuning.comparison import Pair, asked_differently, run_comparison
from tuning.models import pair_models


def run(
    study: StudyConfig,
    search: bool = False,
    watch: Path | None = None,
    fail_if: Sequence[str] = (),
) -> int:
    """Returns the exit status that `fail_if` asks for."""
    _check_options(study, search, watch)
    study = study.model_copy(update={"sweep": type(study.sweep)()})
    if watch is not None:
        from tuning import watch as watching

        watching.check_run(watch)
        study, base = _opened(study, [])
        conditions = _conditions(fail_if, study, "step", ())
        done, pair = watching.watch(study, base, watch, say)
    else:
        assert study.checkpoint
        unit, folders = saved_checkpoints(study.checkpoint, study.checkpoint_pattern)
        if search:
            from tuning.peak import search_peak

            study, base = _opened(study, [])
            conditions = _conditions(fail_if, study, unit, ())  # which are measured is not known
            done, pair = search_peak(study, base, unit, folders, say)
        else:
            study, pair = _pair(study, unit, folders)
            conditions = _conditions(fail_if, study, unit, tuple(folders))
            done = run_comparison(study, pair, say)
    *_, last = pair.tuned.values()
    write_results(study, done, list(pair_models(study, pair.base, last)))
    return fail_conditions.report(conditions, done, study.folder, say)


def _conditions(
    fail_if: Sequence[str], study: StudyConfig, unit: str, numbers: tuple[float, ...]
) -> list[Condition]:
    return fail_conditions.parse(fail_if, study, build(study.task).votes, (unit, numbers))


def _pair(study: StudyConfig, unit: str, folders: Mapping[float, Path]) -> tuple[StudyConfig, Pair]:
    """Returns the base and all checkpoints of `folders`, after all checks, and the study with
    inferred settings."""
    named_base = study.base
    if any(map(has_adapter, folders.values())):
        infer_settings.infer(study, [])  # the data is checked before adapters are merged
    study = adapters.with_merged(study.model_copy(update={"checkpoint": None}), say)
    whole = {number: adapters.merged(study, path, say) for number, path in folders.items()}
    study, base = _opened(study, list(whole.values()))
    task = build(study.task)
    tuned = {number: preflight.check_checkpoint(path, task) for number, path in whole.items()}
    for checkpoint in tuned.values():
        preflight.check_prompts(study, checkpoint.path, task)
    sources = {tuned[number].path: path for number, path in folders.items()}
    pair = Pair(base, tuned, unit, sources={base.path: named_base or base.path, **sources})
    if difference := asked_differently(study, pair):
        say(f"note: {difference}")
    return study, pair


def _opened(study: StudyConfig, tuned: Sequence[Path]) -> tuple[StudyConfig, Checkpoint]:
    """Returns the study with inferred settings, and its base, after all checks."""
    study = adapters.with_merged(study.model_copy(update={"checkpoint": None}), say)
    assert study.base
    study, inferred = infer_settings.infer(study, [study.base, *tuned])
    if inferred:
        say(f"inferred settings: {'; '.join(inferred)}")
    base = preflight.check(study, takes_checkpoint=True)
    for note in (*build(study.task).warnings, *prompt_notes.notes(study, [base.path, *tuned])):
        say(f"note: {note}")
    return study, base


def _check_options(study: StudyConfig, search: bool, watch: Path | None) -> None:
    tuned = study.checkpoint
    if watch is not None and (search or tuned is not None):
        raise refuse(
            "--watch takes the place of --tuned and --search",
            "--search" if search else f"--tuned {tuned}",
            "--watch RUN alone, which measures every checkpoint of the run",
            "leave the other option out",
        )
    if study.base is None or (tuned is None and watch is None):
        raise refuse(
            "compare needs two checkpoints",
            f"base={study.base}, tuned={tuned}",
            "two Hugging Face checkpoint folders",
            "set --base DIR and --tuned DIR (or --watch RUN)",
        )


if __name__ == "__main__":
    cli.run_job("compare")
