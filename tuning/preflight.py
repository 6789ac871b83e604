"""Everything that can be refused is refused here, before any work starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.store import Store, check_writable
from forkdiv.models.checkpoint import (
    Checkpoint,
    check_vocabulary,
    open_checkpoint,
    read_config,
    same_shape,
)
from forkdiv.models.prompting import check_template
from forkdiv.tasks.base import Task, too_few
from forkdiv.tasks.registry import build
from forkdiv.train.pretrain import CONTEXT, planned_base


def check(study: StudyConfig, takes_checkpoint: bool = False) -> Checkpoint:
    """All checks for a verb that samples or fine-tunes; returns the base.

    Raises UserError for the first thing found wrong.
    """
    if study.checkpoint and not takes_checkpoint:
        raise refuse(
            "this command does not read the setting checkpoint, because it trains its checkpoints",
            f"checkpoint={study.checkpoint}",
            "checkpoint in `forkdiv sample` and `forkdiv evaluate` only",
            "remove checkpoint, or set base to fine-tune from it",
        )
    task = build(study.task)
    base = check_base(study, task)
    check_lengths(study, base.path, task)
    task.heldout(study.eval.split, study.eval.problems)  # refuses what the task cannot supply
    check_writable(study.place.root, study.place.min_free_mib)
    check_ports(study.place)
    return base


def check_base(study: StudyConfig, task: Task) -> Checkpoint:
    """The base: a folder that is there, or the one that `pretrain` will make."""
    if reason := task.unavailable():
        raise refuse(
            "this task cannot run on this machine",
            reason,
            "a machine that has what is missing",
            "run it on another machine, or choose another task",
        )
    if study.base is None:
        base = planned_base(Store.of(study.place), task, study.pretrain)
        needed = (study.pretrain.examples, task.available("pretrain"))
        if needed[0] > needed[1]:
            raise too_few("pretrain", *needed)
        if study.prompt.template != "raw":
            raise refuse(
                "a pretrained base model (base=null) has no tokens for a prompt template",
                f"prompt.template={study.prompt.template}",
                "prompt.template=raw, or base set to your own checkpoint",
                "remove prompt.template",
            )
        return base
    base = check_checkpoint(study.base, task)
    check_template(study.base, study.prompt)
    return base


def check_checkpoint(path: Path, task: Task) -> Checkpoint:
    """Refuse a folder that is no checkpoint, or one that does not know the task's words."""
    checkpoint = open_checkpoint(path)
    check_vocabulary(path, task.vocabulary())
    return checkpoint


def check_study_checkpoint(study: StudyConfig, base: Checkpoint) -> Checkpoint | None:
    """The checkpoint that a study names, checked beside its base; None where it names none."""
    if study.checkpoint is None:
        return None
    return check_same_engine(study.checkpoint, base, build(study.task))


def check_same_engine(path: Path, base: Checkpoint, task: Task) -> Checkpoint:
    """As `check_checkpoint`, for one that shares the base's engine."""
    checkpoint = check_checkpoint(path, task)
    if not same_shape(path, base.path):
        raise refuse(
            f"the checkpoint {path} has another architecture or tokenizer than the base",
            "a different config.json or tokenizer.json",
            f"those of {base.path}",
            "set base to the model that the checkpoint was fine-tuned from",
        )
    return checkpoint


def check_lengths(study: StudyConfig, base: Path, task: Task) -> None:
    """Refuse settings under which no correct answer could be given."""
    longest = task.longest_response()
    if longest and study.decoder.max_new_tokens < longest:
        raise refuse(
            "decoder.max_new_tokens is too small for a correct response",
            study.decoder.max_new_tokens,
            f"at least {longest} for this task",
            "raise decoder.max_new_tokens",
        )
    shape = base if study.base else study.pretrain.start  # of a base that is not there yet
    context = read_config(shape).get("max_position_embeddings") if shape else CONTEXT
    prompt = task.heldout(study.eval.split, study.eval.problems)[0].prompt
    # words are a lower bound of tokens: what fails here cannot fit
    needed = len(prompt.split()) + study.decoder.max_new_tokens
    if context is not None and needed > context:
        raise refuse(
            f"prompt and response do not fit the context of {base}",
            f"at least {needed} tokens",
            f"at most {context} tokens",
            "lower decoder.max_new_tokens or the problem size of the task",
        )


def ray_address(place: PlaceConfig) -> str | None:
    """The address of the Ray to join, or None where one is started. RAY_ADDRESS is set in jobs."""
    return place.ray_address or os.environ.get("RAY_ADDRESS") or None


def check_ports(place: PlaceConfig) -> None:
    """Refuse a dashboard port that is taken."""
    if ray_address(place) or not place.dashboard:
        return
    check_port(
        "127.0.0.1", place.dashboard_port, "place.dashboard_port", "or place.dashboard=false"
    )


def check_port(host: str, port: int, setting: str, otherwise: str = "") -> None:
    """Refuse an address on which nothing can listen now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise refuse(
                f"cannot listen on {host}:{port} ({error.strerror or error})",
                port,
                "a free port of this machine",
                f"set {setting} to another port{f', {otherwise}' if otherwise else ''}",
            ) from error
