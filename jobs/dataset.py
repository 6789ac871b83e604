"""Write the SFT dataset of one setting, and show its card.

forkdiv dataset dataset.fork_density=0.25 dataset.examples=800
forkdiv dataset --config branch-coverage dataset.branch_coverage=2
"""

from __future__ import annotations

import json

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.store import Store, check_place
from forkdiv.data import dataset
from forkdiv.tasks.registry import build
from forkdiv.terminal import say
from tuning.space import check_data


def run(study: StudyConfig) -> None:
    check_data(study)
    check_place(study.place)
    store = Store.of(study.place)
    artifact = dataset.obtain_sft(store, build(study.task), study.dataset, say)
    say(json.dumps(dataset.read_card(artifact.path), indent=1))
    say(f"dataset: {artifact.path / dataset.EXAMPLES}")


if __name__ == "__main__":
    cli.run_job("dataset")
