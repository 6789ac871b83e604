"""A run of reinforcement learning; writes Hugging Face checkpoints.

One run is one artifact: the checkpoints `step-000100/` …, `log.jsonl` with one row per iteration,
and `episodes.parquet` with every sampled response, its seed, log-probabilities and reward. Until
the run is published, its files are in its workspace, which survives a kill and from which the run
resumes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.core.config.rl import RlConfig
from forkdiv.core.config.study import StudyConfig
from forkdiv.core.errors import InvalidResult
from forkdiv.core.fingerprint import Identity
from forkdiv.core.progress import Progress
from forkdiv.core.records import Problem
from forkdiv.core.store import Artifact, Store
from forkdiv.models.asked import asked
from forkdiv.models.checkpoint import Checkpoint
from forkdiv.models.saved import saved_checkpoints
from forkdiv.rl import episodes, prompts
from forkdiv.rl.job import (
    CHECKPOINTS,
    EPISODES,
    LOG,
    PROBLEMS,
    STOPPED,
    RlJob,
    Stopped,
    checkpoint_name,
    write_problems,
)
from forkdiv.sample.evaluation import PROBES, Evaluation


@dataclass(frozen=True)
class Inputs:
    """What decides a run: its start, problems (in the first of their orders) and settings."""

    start: Checkpoint
    config: RlConfig
    decoder: DecoderConfig
    evaluation: Evaluation
    problems: Sequence[Problem]
    dataset: Mapping[str, Any] | None

    @classmethod
    def of(cls, study: StudyConfig, start: Checkpoint) -> Inputs:
        """Returns the inputs that a study's settings describe. Raises UserError if there are no
        problems that fine-tuning has not used."""
        evaluation = Evaluation.of(study)
        problems = prompts.problems(evaluation.task, study.dataset, study.rl)
        dataset = study.dataset.model_dump() if study.rl.unseen else None
        return cls(start, study.rl, rl_decoder(study), evaluation, problems, dataset)

    @property
    def prompts(self) -> list[str]:
        """The prompts that the model reads."""
        return [self.evaluation.asked(problem.prompt) for problem in self.problems]

    @property
    def identity(self) -> Identity:
        """The identity of the run. Device and workers are not part of it."""
        evaluation = self.evaluation
        seen = asked(self.start.path, self.prompts[:PROBES], evaluation.prompt)
        config = {
            "rl": self.config.deciding,
            "task": evaluation.task.identity(),
            "dataset": self.dataset,
            "decoder": self.decoder,
            "prompt": evaluation.prompt,
            "prompt_ids": seen.prompts,
            "stop_ids": seen.stop_ids,
            "grading": evaluation.grading(self.start),
            **evaluation.shots.identity(),
        }
        return Identity("rl", config, {"start": self.start.fingerprint})


def rl_decoder(study: StudyConfig) -> DecoderConfig:
    """Returns the decoder of the episodes: lengths, ends and dtype of `decoder`, and the
    temperature and min-p of `rl`."""
    return DecoderConfig(
        temperature=study.rl.temperature,
        min_p=study.rl.min_p,
        max_new_tokens=study.decoder.max_new_tokens,
        stop=study.decoder.stop,
        dtype=study.decoder.dtype,
    )


def obtain(
    store: Store, study: StudyConfig, inputs: Inputs, app: str | None, progress: Progress
) -> Artifact:
    """Returns the run; trains if the store does not have it. `app` is the name of the sampler's
    Serve application.

    Raises InvalidResult if the run stops before its end, with the iteration and the reason.
    """
    identity = inputs.identity

    def make(folder: Path) -> None:
        assert app is not None
        workspace = store.workspace(identity)
        saved = [workspace / CHECKPOINTS / checkpoint_name(n) for n in inputs.config.saved]
        (workspace / CHECKPOINTS).mkdir(exist_ok=True)
        (workspace / STOPPED).unlink(missing_ok=True)
        write_problems(workspace / PROBLEMS, inputs.problems, inputs.prompts)
        # an earlier attempt may have been killed after its last checkpoint
        if not all(path.exists() for path in saved):
            _train(workspace, study, inputs, identity.fingerprint, app, progress)
        _check_finished(workspace, saved)
        for path in saved:
            # hard links: the workspace stays complete if anything fails before publishing
            shutil.copytree(path, folder / path.name, copy_function=os.link)
        shutil.copyfile(workspace / LOG, folder / LOG)
        shutil.copyfile(workspace / PROBLEMS, folder / PROBLEMS)
        episodes.gather(workspace / EPISODES, inputs.config.iterations, folder / episodes.PARQUET)

    return store.obtain(identity, make, progress)


def checkpoints(run: Artifact) -> dict[int, Checkpoint]:
    """Returns the run's checkpoints by iteration, in order."""
    _, saved = saved_checkpoints(run.path)
    return {
        int(number): Checkpoint(folder, f"{run.fingerprint}-{folder.name}")
        for number, folder in saved.items()
    }


def _train(
    workspace: Path,
    study: StudyConfig,
    inputs: Inputs,
    run: str,
    app: str,
    progress: Progress,
) -> None:
    from forkdiv.rl.worker import JOB, rl_worker
    from forkdiv.train.trainer import run_workers  # imports Ray, which takes seconds

    thinking = inputs.evaluation.thinking(inputs.start)
    job = RlJob(
        workspace=workspace.resolve(),
        run=run,
        start=inputs.start.path.resolve(),
        start_fingerprint=inputs.start.fingerprint,
        rl=inputs.config,
        place=study.place,
        task=study.task,
        decoder=inputs.decoder,
        thinking=thinking.as_json() if thinking else None,
        app=app,
        progress=progress.path.resolve(),
        who=progress.who,
    )
    progress(
        f"rl: {inputs.config.iterations} iterations of {inputs.config.episodes} episodes on "
        f"{len(inputs.problems)} prompts, starting a worker"
    )
    run_workers(rl_worker, {JOB: job.model_dump_json()}, study.place, workspace, workspace / "ray")


def _check_finished(workspace: Path, saved: Sequence[Path]) -> None:
    """Raises InvalidResult if the run stopped, with the last checkpoint that it has written."""
    if not (workspace / STOPPED).exists():
        return
    stopped = Stopped.model_validate_json((workspace / STOPPED).read_text())
    written = [path for path in saved if path.exists()]
    last = f"; the last checkpoint is {written[-1]}" if written else ""
    raise InvalidResult(f"rl stopped at iteration {stopped.iteration}: {stopped.reason}{last}")
