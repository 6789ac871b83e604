"""Checks of the settings, before any work starts."""

from __future__ import annotations

import socket
from importlib import metadata
from pathlib import Path

from forkdiv.core.chat import unpack
from forkdiv.core.config.shipped import bases
from forkdiv.core.config.study import DecoderConfig, PlaceConfig, StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.core.store import Store, check_place
from forkdiv.models.asked import own_tokenizer
from forkdiv.models.checkpoint import (
    Checkpoint,
    check_vocabulary,
    open_checkpoint,
    read_config,
    share_engine,
)
from forkdiv.models.digests import DIGESTS
from forkdiv.models.prompting import chat_text, check_template
from forkdiv.models.shape import context_length
from forkdiv.sample.evaluation import Evaluation
from forkdiv.tasks.base import Task, too_few
from forkdiv.tasks.registry import build
from forkdiv.train.pretrain import CONTEXT, planned_base
from tuning.check_ray import check_ray, ray_address
from tuning.space import ways_of_measuring


def check(study: StudyConfig, takes_checkpoint: bool = False, measures: bool = True) -> Checkpoint:
    """Runs all checks for a command that samples or fine-tunes; returns the base. Without
    `measures`, the command needs no held-out problems.

    Raises UserError for the first problem.
    """
    if study.checkpoint and not takes_checkpoint:
        raise refuse(
            "this command does not read the setting checkpoint, because it trains its checkpoints",
            f"checkpoint={study.checkpoint}",
            "checkpoint in `forkdiv sample` and `forkdiv evaluate` only",
            "remove checkpoint, or set base to fine-tune from it",
        )
    check_device(study.place)
    task = build(study.task)
    base = check_base(study, task)
    for way in ways_of_measuring(study) if measures else ():
        task = build(way.task)
        check_lengths(way, base.path, task)
        task.heldout(way.eval.split, way.eval.problems)  # raises UserError for too few problems
    check_place(study.place)
    check_ports(study.place)
    check_ray(study.place)
    return base


def check_base(study: StudyConfig, task: Task) -> Checkpoint:
    """Checks and returns the base: an existing folder, or the base that `pretrain` will build."""
    if reason := task.unavailable():
        raise refuse(
            "this task cannot run on this machine",
            reason,
            "a machine that has what is missing",
            "run it on another machine, or choose another task",
        )
    if study.base is None:
        base = planned_base(Store.of(study.place), task, study.pretrain)
        examples, available = study.pretrain.examples, task.available("pretrain")
        if examples > available:
            raise too_few("pretrain", examples, available)
        if study.prompt.template != "raw":
            raise refuse(
                "a pretrained base model (base=null) has no tokens for a prompt template",
                f"prompt.template={study.prompt.template}",
                "prompt.template=raw, or base set to your own checkpoint",
                "remove prompt.template",
            )
        return base
    base = check_checkpoint(study.base, task)
    check_prompts(study, study.base, task)
    return base


def check_prompts(study: StudyConfig, path: Path, task: Task) -> None:
    """Raises UserError for prompt.template=chat if the checkpoint has no chat template, or if it
    cannot be applied to every held-out problem."""
    check_template(path, study.prompt)
    # without held-out problems, a command that measures is refused elsewhere; others need none
    if study.prompt.template != "chat" or not task.available(study.eval.split):
        return
    tokenizer = own_tokenizer(path).tokenizer
    evaluation = Evaluation.of(study)
    for problem in evaluation.asked_problems:
        chat_text(tokenizer, problem.prompt, evaluation.prompt)


def check_checkpoint(path: Path, task: Task) -> Checkpoint:
    """Returns the checkpoint. Raises UserError if the folder is no checkpoint that can be loaded,
    or its tokenizer lacks words of the task."""
    checkpoint = open_checkpoint(path)
    check_vocabulary(path, task.vocabulary())
    if not (path in bases().values() or (path / DIGESTS).is_file()):
        from forkdiv.models.loading import check_loadable  # torch: seconds

        check_loadable(path)  # a checkpoint that forkdiv wrote has all tensors
    return checkpoint


def check_study_checkpoint(study: StudyConfig, base: Checkpoint) -> Checkpoint | None:
    """Checks and returns the checkpoint of the setting `checkpoint`; None if it is not set."""
    if study.checkpoint is None:
        return None
    task = build(study.task)
    checkpoint = check_same_engine(study.checkpoint, base, task)
    check_prompts(study, checkpoint.path, task)
    return checkpoint


def check_same_engine(path: Path, base: Checkpoint, task: Task) -> Checkpoint:
    """As `check_checkpoint`, but also raises UserError if the checkpoint cannot use the base's
    engine."""
    checkpoint = check_checkpoint(path, task)
    if not share_engine(path, base.path):
        raise refuse(
            f"the checkpoint {path} has a different architecture than the base",
            "a different config.json",
            f"those of {base.path}",
            "set base to the model that the checkpoint was fine-tuned from",
        )
    return checkpoint


def check_response_length(decoder: DecoderConfig, task: Task) -> None:
    """Raises UserError if a correct response does not fit decoder.max_new_tokens."""
    longest = task.longest_response()
    if longest and decoder.max_new_tokens < longest:
        raise refuse(
            "decoder.max_new_tokens is too small for a correct response",
            decoder.max_new_tokens,
            f"at least {longest} for this task",
            "raise decoder.max_new_tokens",
        )


def check_lengths(study: StudyConfig, base: Path, task: Task) -> None:
    """Raises UserError if a correct response does not fit decoder.max_new_tokens, or a prompt and a
    response do not fit the context."""
    check_response_length(study.decoder, task)
    shape = base if study.base else study.pretrain.start  # the base may not exist yet
    context = context_length(read_config(shape)) if shape else CONTEXT
    prompt = Evaluation.of(study).asked_problems[0].prompt
    # the number of words is a lower bound of the number of tokens
    words = sum(len(turn["content"].split()) for turn in unpack(prompt))
    needed = words + study.decoder.max_new_tokens
    if context is not None and needed > context:
        raise refuse(
            f"prompt and response do not fit the context of {base}",
            f"at least {needed} tokens",
            f"at most {context} tokens",
            "lower decoder.max_new_tokens, prompt.shots or the problem size of the task",
        )


def check_device(place: PlaceConfig, on_cluster: bool = True) -> None:
    """Raises UserError for place.device=gpu on a machine without a GPU, or with a torch that was
    built for CPUs. With `on_cluster`, the work runs on the Ray cluster that is set, if any."""
    if place.device != "gpu" or (on_cluster and ray_address(place)):
        return
    release = metadata.version("torch")
    if release.endswith("+cpu"):
        came = f"torch {release}, which was built for CPUs"
    elif not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        came = "no NVIDIA device in /dev"
    else:
        return
    raise refuse(
        "place.device=gpu cannot be used on this machine",
        came,
        "an NVIDIA GPU with the packages of `python -m forkdiv.requirements gpu`, or a Ray cluster "
        "(place.ray_address)",
        "set place.device=cpu",
    )


def check_ports(place: PlaceConfig) -> None:
    """Raises UserError if the dashboard's port is in use."""
    if ray_address(place) or not place.dashboard:
        return
    check_port(
        "127.0.0.1", place.dashboard_port, "place.dashboard_port", "or place.dashboard=false"
    )


def check_port(host: str, port: int, setting: str, otherwise: str = "") -> None:
    """Raises UserError if a server cannot listen on `host:port`."""
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
