"""Compute pass@k of samples that lm-evaluation-harness wrote, and compare it with the base.

    lm_eval run --tasks TASK --log_samples --output_path OUT …
    forkdiv coverage --samples OUT/TUNED --base OUT/BASE
    forkdiv coverage --samples TUNED --base BASE --fail-if 'pass@64 < base'
    forkdiv coverage --samples FILE task.kind=file task.grader=math

The task of lm_eval must draw several samples of each problem (`repeats: 64`). --samples and --base
take a samples_*.jsonl file, or a folder: then the newest file of every task in it is used. Repeat
an option to merge several files of one task. --fail-if takes conditions as `forkdiv compare` does,
and ends with the same statuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.results import Interval, Summary
from forkdiv.core.store import check_writable
from forkdiv.coverage import summary
from forkdiv.coverage.conditions import Condition
from forkdiv.report import page, tables
from forkdiv.report.grid import Grid
from forkdiv.report.headline import headline
from forkdiv.terminal import say, show_table
from jobs.report import show_beside_pass_at_k
from tuning import fail_conditions
from tuning.outcome import write_summary


def run(
    study: StudyConfig,
    samples: Sequence[Path] | None = None,
    base: Sequence[Path] | None = None,
    fail_if: Sequence[str] = (),
) -> int:
    """Returns the exit status that `fail_if` asks for."""
    from forkdiv.lm_eval.measuring import measure

    if not samples:
        raise refuse(
            "coverage needs samples",
            "no --samples",
            "a samples_*.jsonl written by lm_eval --log_samples, or a folder of them",
            "add --samples FILE, and --base FILE to compare with the base",
        )
    check_writable(study.place.root, study.place.min_free_mib)
    conditions: list[Condition] = []

    def before_grading(study: StudyConfig, has_answers: bool) -> None:
        one_model = ("epoch", (0,))
        parsed = fail_conditions.parse(fail_if, study, has_answers, one_model, has_base=bool(base))
        conditions.extend(parsed)

    done = measure(study, samples, base or (), say, before_grading)
    for note in done.notes:
        say(f"note: {note}")
    written = page.write(done, study.folder)
    write_summary(done, study.folder)
    show_table(
        *_table(done), title=f"{study.name}: pass@k, with {_percent(done)} confidence intervals"
    )
    show_beside_pass_at_k(Grid.of(done))
    say(headline(done))
    say(f"report: {written}")
    summary.check(done)
    return fail_conditions.report(conditions, done, study.folder, say)


def _percent(done: Summary) -> str:
    return f"{done.confidence * 100:g}%"


def _table(done: Summary) -> tuple[list[str], list[list[str]]]:
    """Returns one row per subset and k: base, tuned, and the paired change."""
    bases = {cell.subset: cell for cell in done.base}
    sides = ["base", "tuned", "change from the base"] if bases else ["pass@k"]
    rows = []
    for cell in done.cells:
        for k, value in cell.pass_at.items():
            row = [cell.subset, str(k)]
            if bases:
                row.append(_interval_text(bases[cell.subset].pass_at[k]))
            row.append(_interval_text(value))
            if bases:
                row.append(tables.change_text(cell, k))
            rows.append(row)
    return ["subset", "k", *sides], rows


def _interval_text(interval: Interval | None) -> str:
    if interval is None:
        return "invalid"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


if __name__ == "__main__":
    cli.run_job("coverage")
