"""Fine-tune the base on its dataset with Ray Train and DeepSpeed.

forkdiv train dataset.fork_density=0.5 sft.epochs=8 sft.save_epochs=[2,4]
forkdiv train --config own-data task.train=FILE base=DIR sft.lora.rank=16
"""

from __future__ import annotations

from forkdiv import cli
from forkdiv.core.config.study import StudyConfig
from forkdiv.forks import synthesis
from forkdiv.terminal import say
from forkdiv.train import sft_run
from tuning import before_training
from tuning.resources import Work


def run(study: StudyConfig) -> None:
    from tuning.open_study import open_study

    study, base = before_training.checked_without_sweep(study, say)
    # only synthesis from samples needs the sampler
    samples = study.dataset.synthesis == synthesis.SAMPLES
    with open_study(study, base, "train", say, Work(samples=samples)) as work:
        trained = work.pipeline.trained(work.study)
    for epoch, checkpoint in sft_run.checkpoints(trained).items():
        work.store.whole(checkpoint.path)  # with place.store, it may have no weights here yet
        say(f"epoch {epoch:g}: {checkpoint.path}")


if __name__ == "__main__":
    cli.run_job("train")
