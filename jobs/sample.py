"""Sample one checkpoint (`checkpoint=DIR`, else the base) on the held-out problems.

forkdiv sample checkpoint=DIR decoder.temperature=0.7
forkdiv sample checkpoint=runs/store/train/FINGERPRINT/epoch-0004
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Follower, Progress
from forkdiv.core.store import Store
from forkdiv.sample import sample_sets
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning import preflight
from tuning.study import folder


def run(study: StudyConfig) -> None:
    from forkdiv.sample.deployment import ServeSampler
    from tuning import session

    base = preflight.check(study, takes_checkpoint=True)
    task = build(study.task)
    checkpoint = preflight.check_beside(study.checkpoint, base, task) if study.checkpoint else base
    problems = task.heldout(study.eval.split, study.eval.problems)
    progress = Progress(folder(study) / "progress.jsonl", "sample")
    with Follower(progress.path, say), session.running(study.place):
        study, base = session.prepared(study, base, progress)
        checkpoint = session.shared(study.place, checkpoint) if study.checkpoint else base
        what = sample_sets.identity(study.task, study.eval, checkpoint, study.decoder, study.prompt)
        with session.sampler(study, base) as app:
            samples = sample_sets.obtain(
                Store(study.place.root / "store"),
                what,
                problems,
                study.eval.samples,
                checkpoint,
                study.decoder,
                ServeSampler(app, study.place.engine),
                progress,
            )
    say(f"samples: {samples.path}")
    samples.require_complete()


if __name__ == "__main__":
    cli.run_job("sample")
