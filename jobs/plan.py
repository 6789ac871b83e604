"""Estimate parameters, steps and GPU memory of fine-tuning.

    forkdiv plan --config arithmetic-chain
    forkdiv plan --config arithmetic-chain-7b place.zero_stage=2
    forkdiv plan plan.architecture=MODEL/config.json place.workers=8

Needs neither a GPU nor weights nor Ray. Ends with status 2 if the estimate does not fit one GPU.
"""

from __future__ import annotations

import json

from forkdiv import cli
from forkdiv.core.config.study import PlaceConfig, StudyConfig
from forkdiv.core.errors import refuse
from forkdiv.tasks.registry import build
from forkdiv.terminal import say, show_table
from tuning.resources import Work, placed


def run(study: StudyConfig) -> None:
    from forkdiv.train import memory, pass_size, schedule
    from forkdiv.train.deepspeed_engine import deepspeed_config

    sft, place = study.sft, study.place
    path = study.plan.architecture or study.base
    if path is None:
        raise refuse(
            "plan needs a model architecture",
            "base=null",
            "a config.json, or a folder that contains one",
            "set plan.architecture or base",
        )
    shape = memory.shape(memory.read_architecture(path), sft)
    if max(study.plan.tokens, place.pack_tokens or 0) > shape.context:
        raise refuse(
            "the examples do not fit the model's context",
            f"plan.tokens={study.plan.tokens}, place.pack_tokens={place.pack_tokens}",
            f"at most {shape.context} tokens",
            "lower plan.tokens or place.pack_tokens",
        )
    examples = study.plan.examples or build(study.task).examples(study.dataset)
    steps = sft.epochs * schedule.steps_per_epoch(examples, sft)
    nodes = -(-place.workers // study.plan.gpus_per_node)
    trained = f", {shape.trained:,} of them trained" if shape.trained < shape.parameters else ""
    say(f"model: {shape.parameters:,} parameters{trained} ({path})")
    say(
        f"workers: {place.workers} on {nodes} node{'s' * (nodes > 1)}, ZeRO stage "
        f"{place.zero_stage}, offload {place.offload}, {sft.dtype}"
    )
    gpus = nodes * study.plan.gpus_per_node if place.device == "gpu" else 0
    place, turns = placed(place, Work(), gpus)
    say(f"engine: {turns or _beside(place)}")
    usable = pass_size.GPU_SHARE * study.plan.gpu_gib
    place, passes = pass_size.with_rows_that_fit(shape, sft, place, study.plan.tokens, usable)
    if passes:
        say(f"passes: {passes}")
    say(
        f"steps: {steps} ({sft.epochs} epochs of {examples} examples, {sft.batch_size} per step), "
        f"{round(sft.warmup_share * steps)} of them warm-up"
    )
    saves = [f"step {save.step}" for save in schedule.retained(examples, sft)]
    shown = saves if len(saves) <= 8 else [*saves[:4], "…", *saves[-2:]]
    say(f"checkpoints kept: {len(saves)} ({', '.join(shown)})")
    say(f"DeepSpeed: {json.dumps(deepspeed_config(sft, place, place.workers))}")
    need = memory.estimate(shape, sft, place, study.plan.tokens)
    rows = [[name, f"{gib:.1f}"] for name, gib in need.gpu.items()]
    rows += [["GPU total", f"{need.total:.1f}"], ["host memory", f"{need.host:.1f}"]]
    rows += [["… to load the model", f"{need.loading:.1f}"]]
    rows += [["… to save it (first worker)", f"{need.saving:.1f}"]]
    show_table(["per worker", "estimated GiB"], rows, title=f"{study.name}: memory")
    if need.total > study.plan.gpu_gib:
        raise refuse(
            "this run is not expected to fit into GPU memory",
            f"{need.total:.1f} GiB per GPU",
            f"at most plan.gpu_gib={study.plan.gpu_gib:g}",
            "raise place.zero_stage or place.workers, lower place.micro_batch, or set "
            "place.activation_checkpointing, place.offload or sft.lora.rank",
        )


def _beside(place: PlaceConfig) -> str:
    """Returns where the engine of a study runs while a model is trained."""
    engine = place.engine
    most = max(engine.replicas, engine.max_replicas or 0) * engine.tensor_parallel
    where = "the CPU" if place.device == "cpu" else f"{most} GPU{'s' * (most > 1)} of its own"
    return f"on {where}, beside training (place.engine.while_training=beside)"


if __name__ == "__main__":
    cli.run_job("plan")
