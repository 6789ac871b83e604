"""Fine-tune the base on one setting's dataset: Ray Train workers, DeepSpeed in each.

forkdiv train dataset.fork_density=0.5 sft.epochs=8 sft.save_epochs=[2,4]
forkdiv train --config own-data task.train=FILE base=DIR sft.lora.rank=16
"""

from __future__ import annotations

from contextlib import nullcontext

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.progress import Follower, Progress
from forkdiv.core.store import Store
from forkdiv.terminal import say
from forkdiv.train import sft_run
from tuning import preflight
from tuning.space import check_data
from tuning.study import folder


def run(study: StudyConfig) -> None:
    from forkdiv.sample.deployment import ServeSampler
    from tuning import session
    from tuning.trial import Line

    base = preflight.check(study)
    study = study.model_copy(update={"sweep": type(study.sweep)()})
    check_data(study)
    store = Store(study.place.root / "store")
    progress = Progress(folder(study) / "progress.jsonl", "train")
    with Follower(progress.path, say), session.running(study.place):
        study, base = session.prepared(study, base, progress)
        # only data that is synthesised from samples needs the sampler
        draws = study.dataset.synthesis == "samples"
        with session.sampler(study, base) if draws else nullcontext("") as app:
            line = Line(study, base, store, ServeSampler(app, study.place.engine), progress)
            made = line.trained(study)
    for epoch, checkpoint in sft_run.checkpoints(made).items():
        say(f"epoch {epoch:g}: {checkpoint.path}")


if __name__ == "__main__":
    cli.run_job("train")
