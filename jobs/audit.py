"""Find the decision points of a dataset, how frequent they are, and which are under-covered.

    forkdiv audit --data FILE
    forkdiv audit --data FILE audit.model=CHECKPOINT
    forkdiv audit --config quickstart dataset.fork_density=0.25

FILE is your own data, or a dataset folder that forkdiv wrote. With audit.model, positions at which
that model is uncertain (high next-token entropy) count as decision points too.
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import check_writable
from forkdiv.data import inputs
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning import preflight
from tuning.space import check_data


def run(study: StudyConfig) -> None:
    from forkdiv.forks.audit import page, text
    from forkdiv.forks.audit.audit import audit

    study = study.model_copy(update={"sweep": type(study.sweep)()})
    study = inputs.with_task_of_data(study, grades=False)
    if study.data is None:
        check_data(study)
    preflight.check_device(study.place, on_cluster=False)
    check_writable(study.place.root, study.place.min_free_mib)
    # for a task of forkdiv the base splits texts into words; for a file only audit.model does
    base = study.base if study.task.kind != "file" else None
    device = "cuda" if study.place.device == "gpu" else "cpu"
    done = audit(
        build(study.task),
        inputs.examples(study, say),
        study.audit,
        study.prompt.without_shots,
        base,
        device,
    )
    for line in text.lines(done.summary):
        say(line)
    say(f"page: {page.write(done, study.folder / 'audit')}")


if __name__ == "__main__":
    cli.run_job("audit")
