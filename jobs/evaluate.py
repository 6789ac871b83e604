"""pass@k of one checkpoint against the base, under one decoder.

The checkpoint is `checkpoint=DIR`, else the one that `train` makes of the same settings.

    forkdiv evaluate dataset.fork_density=0.5 decoder.temperature=0.7
    forkdiv evaluate checkpoint=forkdiv/base/graph-d3-l3
"""

from __future__ import annotations

import json

from forkdiv import cli, preflight, report, summary
from forkdiv.artifacts import Store, write_text
from forkdiv.config import StudyConfig
from forkdiv.progress import Follower, Progress
from forkdiv.tasks import build
from forkdiv.terminal import say, show_table
from tuning.space import Point
from tuning.study import folder
from tuning.trial import Line


def run(study: StudyConfig) -> None:
    from forkdiv.serve import ServeSampler
    from tuning import session

    study, base = session.reachable(study, preflight.check(study))
    given = (
        preflight.check_checkpoint(study.checkpoint, build(study.task))
        if study.checkpoint
        else None
    )
    progress = Progress(folder(study) / "progress.jsonl", "evaluate")
    store = Store(study.place.root.resolve() / "store")
    point = Point(study.dataset.fork_density, study.decoder.temperature, study.sft.seed)
    with Follower(progress.path, say), session.running(study.place):
        with session.sampler(study, base) as app:
            line = Line(study, store, ServeSampler(app, study.place.engine), progress)
            if given:
                point = Point(None, study.decoder.temperature, study.sft.seed)
                result = line.compared(study, point, base, given, None)
            else:
                result = line.walk(point)
    what = summary.identity(study, base).fingerprint
    done = summary.assemble(study, what, [result.cells], result.seconds)
    path = folder(study) / "evaluation.json"
    write_text(path, json.dumps(done, indent=1))
    show_table(*report.table(done), title=f"{given.path if given else point.name}")
    say(f"evaluation: {path}")
    summary.check(done)


if __name__ == "__main__":
    cli.run_job("evaluate")
