"""Checks of the settings of reinforcement learning, before any work starts."""

from __future__ import annotations

from forkdiv.core.chat import unpack
from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.models.checkpoint import Checkpoint, read_config
from forkdiv.models.shape import context_length
from forkdiv.rl.rewards import check_solutions
from forkdiv.rl.rl_run import Inputs
from forkdiv.score.grader_process import Grader
from tuning.preflight import check_response_length


def inputs(study: StudyConfig, start: Checkpoint) -> Inputs:
    """Returns the inputs of the run. Raises UserError for settings with which no response can get
    a reward."""
    found = Inputs.of(study, start)
    task = found.evaluation.task
    check_response_length(study.decoder, task)
    _check_context(study, found)
    thinking = found.evaluation.thinking(start)
    with Grader(task, thinking=thinking) as grader:
        check_solutions(task, found.problems, grader)
    return found


def _check_context(study: StudyConfig, found: Inputs) -> None:
    folder = found.start.token_files
    context = context_length(read_config(folder)) if folder else None
    # the number of words is a lower bound of the number of tokens
    words = max(sum(len(turn["content"].split()) for turn in unpack(p)) for p in found.prompts)
    needed = words + study.decoder.max_new_tokens
    if context is not None and needed > context:
        raise refuse(
            f"prompt and response do not fit the context of {found.start.path}",
            f"at least {needed} tokens",
            f"at most {context} tokens",
            "lower decoder.max_new_tokens or prompt.shots",
        )


def on_one_worker(study: StudyConfig) -> StudyConfig:
    """Returns the study with the place of one worker. Raises UserError for another number that was
    set, and for a place.micro_batch that does not divide the episodes."""
    place, rl = study.place, study.rl
    if "workers" in place.model_fields_set and place.workers != 1:
        raise refuse(
            "reinforcement learning runs on one worker",
            f"place.workers={place.workers}",
            "place.workers=1; the engine may have several replicas (place.engine.replicas)",
            "remove place.workers, or set it to 1",
        )
    if place.micro_batch and rl.episodes % place.micro_batch:
        raise refuse(
            "place.micro_batch does not divide the episodes of an iteration",
            f"place.micro_batch={place.micro_batch} with rl.episodes={rl.episodes}",
            "a divisor of rl.episodes",
            "correct place.micro_batch",
        )
    return study.model_copy(update={"place": place.model_copy(update={"workers": 1})})


def check_beside(place: PlaceConfig) -> None:
    """Raises UserError if engine and worker would take turns on one GPU: every iteration needs
    both."""
    if place.engine.takes_turns:
        raise refuse(
            "reinforcement learning needs the engine and the worker at the same time",
            f"place.engine.while_training={place.engine.while_training} on this machine",
            "a GPU for each of them, and place.engine.while_training=beside",
            "use a machine with two GPUs, or place.device=cpu",
        )
