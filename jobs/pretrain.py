"""Build a base model: random weights, trained on random walks that heed neither sign nor target.

forkdiv pretrain --config jobs/configs/base.yaml      # the base that the repository ships
"""

from __future__ import annotations

import shutil

from forkdiv import cli, dataset, preflight, train
from forkdiv.artifacts import Store, check_writable, publish_folder
from forkdiv.checkpoint import open_checkpoint
from forkdiv.config import StudyConfig
from forkdiv.errors import refuse
from forkdiv.pretrain import obtain_start
from forkdiv.progress import Follower, Progress
from forkdiv.terminal import say
from tuning.study import folder


def run(study: StudyConfig) -> None:
    from tuning import session

    target = folder(study) / "base"
    if target.exists():
        raise refuse(
            "there is a base model already", target, "a new folder", "remove it or set name="
        )
    check_writable(study.place.root, study.place.min_free_mib)
    preflight.check_ports(study.place)
    store = Store(study.place.root / "store")
    progress = Progress(folder(study) / "progress.jsonl", "pretrain")
    config = study.pretrain
    with Follower(progress.path, say):
        start, end_token = obtain_start(store, study.task, config)
        progress(f"drawing {config.examples} examples of {config.walks} walks")
        walks = dataset.obtain_walks(store, study.task, config, end_token)
        with session.running(study.place):
            made = train.obtain(store, walks, start, config.sft, study.place, progress)
    aside = target.with_name(".base")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(train.last(made).path, aside)
    publish_folder(aside, target)
    say(f"base model: {target} ({open_checkpoint(target).fingerprint})")
    say(f"judge it: forkdiv evaluate base={target} checkpoint={target}")


if __name__ == "__main__":
    cli.run_job("pretrain")
