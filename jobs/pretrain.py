"""Build a base model: random weights, trained on random walks that ignore signs and the target.

    forkdiv pretrain --config base
    forkdiv pretrain task.degree=4 task.names=24 name=wider

The first command rebuilds the base model that is included in forkdiv.
"""

from __future__ import annotations

import shutil

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.store import Store, check_place, publish_folder
from forkdiv.models.checkpoint import open_checkpoint
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning import preflight
from tuning.check_ray import check_ray
from tuning.resources import Work


def run(study: StudyConfig) -> None:
    from tuning.open_study import open_study

    target = study.folder / "base"
    if target.exists():
        raise refuse(
            "the folder for the base model already exists",
            target,
            "a new folder",
            "remove the folder, or set name to another name",
        )
    check_place(study.place)
    preflight.check_device(study.place)
    preflight.check_ports(study.place)
    check_ray(study.place)
    study = study.model_copy(update={"base": None})
    planned = preflight.check_base(study, build(study.task))
    with open_study(study, planned, "pretrain", say, Work(samples=False)) as work:
        pretrained = work.base
    aside = target.with_name(".base")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(Store.of(study.place).whole(pretrained.path), aside)
    publish_folder(aside, target)
    say(f"base model: {target} ({open_checkpoint(target).fingerprint})")
    say(f"measure it with: forkdiv evaluate base={target} checkpoint={target}")


if __name__ == "__main__":
    cli.run_job("pretrain")
