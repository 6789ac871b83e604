"""Compute how many problems and samples it takes to show a given loss of coverage.

    forkdiv power --k 64 --loss 0.02
    forkdiv power --k 64 --loss 0.02 --problems 500 --samples 64,128
    forkdiv power --from runs/NAME --loss 0.02
    forkdiv power --k 16 --loss 0.05 power.pass_at_1=0.2 power.pass_at_k=0.6

The table has the power of each design: the probability that the confidence limits of the paired
change (eval.confidence) lie below 0. Studies are simulated, on problems like those of a finished
comparison (--from), or on problems whose probabilities follow beta distributions (power.pass_at_1,
power.pass_at_k, power.correlation). Needs no model, no GPU and no Ray.
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.terminal import live_line, say, show_table


def run(study: StudyConfig) -> None:
    from tuning import power

    question = power.Question.of(study)
    say(question.assumptions)
    done: list[str] = []
    with live_line(lambda: f"simulating studies: {', '.join(done) or 'the problems'} done"):
        answer = power.answer(question, done.append)
    show_table(*answer.table, title=question.title)
    for line in answer.lines:
        say(line)


if __name__ == "__main__":
    cli.run_job("power")
