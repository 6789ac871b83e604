"""Fine-tune the base on one setting's dataset: Ray Train workers, DeepSpeed in each.

forkdiv train dataset.fork_density=0.5 sft.epochs=8 sft.save_epochs=[2,4]
"""

from __future__ import annotations

from forkdiv import cli, dataset, preflight, train
from forkdiv.artifacts import Store
from forkdiv.config import StudyConfig
from forkdiv.progress import Follower, Progress
from forkdiv.terminal import say
from tuning.study import folder


def run(study: StudyConfig) -> None:
    from tuning import session

    study, base = session.reachable(study, preflight.check(study))
    store = Store(study.place.root / "store")
    progress = Progress(folder(study) / "progress.jsonl", "train")
    with Follower(progress.path, say), session.running(study.place):
        data = dataset.obtain_sft(store, study.task, study.dataset, progress)
        made = train.obtain(store, data, base, study.sft, study.place, progress)
    for epoch, checkpoint in train.checkpoints(made).items():
        say(f"epoch {epoch}: {checkpoint.path}")


if __name__ == "__main__":
    cli.run_job("train")
