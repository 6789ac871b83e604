"""Where work runs and which resources it may use. Nothing here is part of a fingerprint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from forkdiv.core.config.base import (
    AbsolutePath,
    Examples,
    Frozen,
    GiB,
    Port,
    Seconds,
    Steps,
    Tokens,
    Unit,
)
from forkdiv.core.config.shipped import ArchitecturePath

_STORE_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)*/?")


def _is_bucket(url: str) -> str:
    """Refuses what is no bucket, without repeating a password before an @."""
    if not _STORE_URL.fullmatch(url):
        shown = re.sub(r"//[^/]*@", "//…@", url)
        raise ValueError(
            f"got {shown}; allowed: s3://BUCKET/PREFIX with letters, digits and . _ - = in its "
            "parts, and credentials in the environment only; correct place.store"
        )
    return url.rstrip("/")


StoreUrl = Annotated[str, AfterValidator(_is_bucket)]

# Of a GPU that an engine and a training worker use in turns: the parts that Ray reserves for each.
# They say nothing about memory. Two workers do not fit on one GPU.
ENGINE_SHARE, WORKER_SHARE = 0.1, 0.9


class PlanConfig(Frozen):
    """What `forkdiv plan` assumes. It needs no GPU and no weights."""

    architecture: ArchitecturePath | None = Field(
        None,
        description="The model: the name of a shipped architecture (qwen2.5-7b), a config.json or "
        "a folder that contains one. null: the architecture of the base.",
    )
    examples: Examples | None = Field(
        None,
        description="Number of training examples. null: dataset.examples, or the task's own "
        "number.",
    )
    tokens: Tokens = Field(512, ge=2, description="Length of the longest example.")
    gpus_per_node: int = Field(8, ge=1, description="GPUs in one machine.")
    gpu_gib: GiB = Field(80, description="Memory of one GPU.")


class EngineConfig(Frozen):
    """The vLLM engine that samples. The version of vLLM affects results and is part of
    fingerprints; these settings are not."""

    replicas: int = Field(1, ge=1, description="Engines that run at the same time.")
    max_replicas: int | None = Field(
        None, ge=1, description="Under load, Ray Serve adds engines up to this many. null: never."
    )
    tensor_parallel: int = Field(1, ge=1, description="GPUs that one engine is spread over.")
    kv_cache_gib: Annotated[int, Unit("GiB")] | None = Field(
        None,
        ge=1,
        description="Memory of one engine's KV cache. null: 1 on a CPU; on a GPU what vLLM leaves "
        "of nine tenths of its memory.",
    )
    max_num_seqs: int | None = Field(
        None,
        ge=1,
        description="Largest number of responses that one engine generates at once. null: 256 on a "
        "CPU; on a GPU what vLLM chooses for its memory.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="CPU threads of one engine, where it samples on a CPU. null: one for every 10 "
        "million parameters of the model, at most all cores.",
    )
    enforce_eager: bool | None = Field(
        None,
        description="Whether vLLM runs without compiling the model and without CUDA graphs: faster "
        "to start, and faster throughout for very small models. null: true on a CPU, false on a "
        "GPU.",
    )
    start_timeout_s: Seconds = Field(
        600, description="Time limit for the start of an engine; after it the command fails."
    )
    request_timeout_s: Seconds = Field(
        600, description="Time limit for the answer to a request; after it the request has failed."
    )
    while_training: Literal["auto", "beside", "sleep", "stop"] = Field(
        "auto",
        description="What the engine does while a model is trained. beside: it has GPUs of its own "
        "and samples checkpoints. sleep: it shares a GPU with a training worker and frees its "
        "memory while training runs, with vLLM's sleep mode. stop: the same, but it ends and "
        "is started again. auto: sleep if there is no GPU for it beside those of the workers, "
        "otherwise beside.",
    )
    requests_in_flight: int = Field(
        32, ge=1, description="Requests (one problem each) sent to the engines at once."
    )
    max_failures: int = Field(
        3,
        ge=0,
        description="How often a failed request is sent again. If it then still fails, its result "
        "is invalid.",
    )

    @model_validator(mode="after")
    def _most_is_not_below_least(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas={self.max_replicas} is below replicas={self.replicas}; allowed: "
                f"at least {self.replicas}; raise it, or remove it to turn autoscaling off"
            )
        return self

    @property
    def takes_turns(self) -> bool:
        """Whether the engine frees its memory while a model is trained."""
        return self.while_training in ("sleep", "stop")

    @property
    def can_take_turns(self) -> bool:
        """Whether the engine may share a GPU with a worker: it must be one engine on one GPU."""
        return self.replicas == self.tensor_parallel == (self.max_replicas or 1) == 1

    @model_validator(mode="after")
    def _only_one_engine_takes_turns(self) -> Self:
        if self.takes_turns and not self.can_take_turns:
            raise ValueError(
                f"while_training={self.while_training} needs one engine on one GPU, got replicas="
                f"{self.replicas}, max_replicas={self.max_replicas}, tensor_parallel="
                f"{self.tensor_parallel}; allowed: 1 for each; lower them, or set "
                "place.engine.while_training=beside"
            )
        return self


class HttpConfig(Frozen):
    """Where `forkdiv serve` listens. If it accepts connections from other machines, it requires an
    API key."""

    host: str = Field("127.0.0.1", description="Address or name to listen on.")
    port: Port = Field(8000, description="Port to listen on.")


class PlaceConfig(Frozen):
    """Where a study runs. These settings change neither a fingerprint nor a result."""

    root: AbsolutePath = Field(
        Path("runs"),
        validate_default=True,
        description="Output folder; a relative path starts at the current folder. On a cluster, "
        "every node must be able to read and write it.",
    )
    store: StoreUrl | None = Field(
        None,
        description="S3-compatible storage for the results, as s3://BUCKET/PREFIX; it needs the "
        "extra forkdiv[s3], and credentials in the environment. What is not finished, progress, "
        "reports and MLflow's file stay in `root`. null: the folder store in `root`.",
    )
    cache: AbsolutePath | None = Field(
        None,
        description="Folder on this machine for copies of results that are in `store`. null: the "
        "folder cache in `root`.",
    )
    cache_gib: GiB = Field(
        100,
        description="Size of that folder: copies that were used least recently are removed, never "
        "what is in use.",
    )
    device: Literal["cpu", "gpu"] = Field("cpu", description="Device for training and sampling.")
    workers: int = Field(2, ge=1, description="Training processes; with GPUs, one GPU for each.")
    cpus_per_worker: float = Field(
        0.5, gt=0, allow_inf_nan=False, description="CPUs that Ray reserves for each worker."
    )
    threads_per_worker: int | None = Field(
        None,
        ge=1,
        description="CPU threads of each worker, where it trains on a CPU. null: one for every 10 "
        "million parameters of the model, at most its share of the cores, but at least the whole "
        "CPUs of `cpus_per_worker`.",
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        1,
        description="What DeepSpeed partitions over the workers. 0: nothing, 1: the optimizer's "
        "state, 2: gradients too, 3: parameters too.",
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="Rows in one forward pass of a worker (a row contains one example, or several "
        "if they are packed); a step then consists of several passes. Saves memory and does not "
        "change the result. null: as many rows as the estimate of `forkdiv plan` says that fit.",
    )
    pack_tokens: Tokens | None = Field(
        None,
        ge=1,
        description="Largest length of a row into which several examples are packed, without "
        "attention between them. null: one example per row.",
    )
    packed_attention: Literal["auto", "mask", "varlen"] = Field(
        "auto",
        description="How packed examples are kept apart. mask: an attention mask of the whole "
        "row. varlen: torch's kernel for examples of different lengths, on GPUs in bfloat16. "
        "auto: varlen where it can be used.",
    )
    logits_gib: GiB = Field(
        1.0,
        description="Memory of the logits that a worker computes at once for the loss, in "
        "float32. More response tokens are computed in parts, and again in the backward pass.",
    )
    activation_checkpointing: bool = Field(
        False, description="Compute activations again instead of storing them: needs less memory."
    )
    offload: Literal["none", "optimizer", "parameters"] = Field(
        "none",
        description="What is kept in the host's memory: the optimizer's state (needs zero_stage 1 "
        "or more), or the parameters too (needs zero_stage 3).",
    )
    resume_every: Steps | None = Field(
        None,
        description="Steps between two saved states from which training can resume; a state is "
        "also saved at the end of each epoch. null: at the end of epochs only.",
    )
    keep_states: int = Field(1, ge=1, description="Number of states kept, the newest ones.")
    overlap: bool = Field(
        True,
        description="Whether a checkpoint is sampled and scored while its training continues; not "
        "where the engine shares a GPU with training (engine.while_training).",
    )
    max_failures: int = Field(
        2, ge=0, description="How often a failed trial or training run is started again."
    )
    worker_start_timeout_s: Seconds = Field(
        600,
        description="Time limit for the start of the training workers of a run; after it the run "
        "is started again, up to `max_failures` times. Also how long a command waits at its start "
        "for the hosts that a cluster's autoscaler adds.",
    )
    max_concurrent_trials: int = Field(1, ge=1, description="Trials that run at the same time.")
    ray_address: str | None = Field(
        None,
        description="Address of the Ray cluster to use. null: the address in the environment "
        "variable RAY_ADDRESS, or else a Ray that is started for this command.",
    )
    ray_start_timeout_s: Seconds = Field(
        120,
        description="Time limit for the start of a Ray that is started for this command. On a "
        "loaded machine a start may fail; until then it is tried again.",
    )
    num_cpus: int | None = Field(
        None,
        ge=1,
        description="CPUs of a Ray that is started for this command. null: all of the machine.",
    )
    dashboard: bool = Field(
        True, description="Whether a Ray that is started for this command has a dashboard."
    )
    dashboard_port: Port = Field(8265, description="Port of the dashboard.")
    mlflow_uri: str | None = Field(
        None,
        description="MLflow tracking server. null: the address in the environment variable "
        "MLFLOW_TRACKING_URI, or else an SQLite file in `root`. The name and password of a server "
        "belong in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    )
    mlflow_experiment: str | None = Field(
        None, description="MLflow experiment of the runs. null: forkdiv/ and the study's name."
    )
    min_free_mib: Annotated[int, Unit("MiB")] = Field(
        512, ge=0, description="Free disk space that `root` must have at the start."
    )
    engine: EngineConfig = Field(EngineConfig(), description="The vLLM engine that samples.")
    http: HttpConfig = Field(HttpConfig(), description="Where `forkdiv serve` listens.")

    @model_validator(mode="after")
    def _offloads_what_is_spread(self) -> Self:
        least = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < least:
            raise ValueError(
                f"offload={self.offload} needs zero_stage={least} or more, got {self.zero_stage}; "
                "allowed: optimizer from stage 1, parameters at stage 3; raise place.zero_stage"
            )
        return self

    @model_validator(mode="after")
    def _sleeps_on_a_gpu(self) -> Self:
        if self.engine.while_training == "sleep" and self.device != "gpu":
            raise ValueError(
                f"engine.while_training=sleep needs device=gpu, got {self.device}; allowed on a "
                "CPU: auto, beside, stop; vLLM has no sleep mode there"
            )
        return self
