"""Where work runs and which resources it may use. Nothing here is part of a fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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


class PlanConfig(Frozen):
    """What `forkdiv plan` assumes. It needs no GPU and no weights."""

    architecture: ArchitecturePath | None = Field(
        None,
        description="The model: the name of a shipped architecture (qwen2.5-7b), a config.json or "
        "a folder with one. null: the base's own.",
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
    """The vLLM engine that samples. Its version decides numbers and is part of fingerprints; how
    it is run is not."""

    replicas: int = Field(1, ge=1, description="Engines that run at the same time.")
    max_replicas: int | None = Field(
        None, ge=1, description="Ray Serve adds engines under load up to this many. null: never."
    )
    tensor_parallel: int = Field(1, ge=1, description="GPUs that one engine is spread over.")
    kv_cache_gib: Annotated[int, Unit("GiB")] = Field(
        1, ge=1, description="Memory of one engine's KV cache."
    )
    max_num_seqs: int = Field(
        256, ge=1, description="Largest number of responses that one engine draws at once."
    )
    enforce_eager: bool = Field(
        True,
        description="Whether vLLM runs without compiling the model: faster to start, and faster "
        "throughout for very small models.",
    )
    start_timeout_s: Seconds = Field(
        600, description="An engine that has not started by then is given up."
    )
    request_timeout_s: Seconds = Field(
        600, description="A request that has no answer by then counts as failed."
    )
    requests_in_flight: int = Field(
        32, ge=1, description="Requests (one problem each) sent to the engines at once."
    )
    max_failures: int = Field(
        3,
        ge=0,
        description="Failures of one request that are tried again; after more its result is "
        "marked invalid.",
    )

    @model_validator(mode="after")
    def _most_is_not_below_least(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(
                f"max_replicas={self.max_replicas} is below replicas={self.replicas}; allowed: "
                f"at least {self.replicas}; raise it, or drop it for no autoscaling"
            )
        return self


class HttpConfig(Frozen):
    """Where `forkdiv serve` listens. Beyond this machine it requires an API key."""

    host: str = Field("127.0.0.1", description="Address or name to listen on.")
    port: Port = Field(8000, description="Port to listen on.")


class PlaceConfig(Frozen):
    """Where a study runs. Nothing here changes a fingerprint or a result."""

    root: AbsolutePath = Field(
        Path("runs"),
        validate_default=True,
        description="Output folder, relative to the current folder where it is not absolute. On "
        "a cluster every node must see it.",
    )
    device: Literal["cpu", "gpu"] = Field("cpu", description="What trains and samples.")
    workers: int = Field(2, ge=1, description="Training processes; on GPUs each takes one of them.")
    cpus_per_worker: float = Field(
        0.5, gt=0, allow_inf_nan=False, description="CPUs that Ray reserves for each worker."
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        1,
        description="What DeepSpeed spreads over the workers. 0: nothing, 1: the optimizer's "
        "state, 2: gradients too, 3: parameters too.",
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="Rows of tokens that a worker computes at once; a step takes several such "
        "passes. It saves memory and changes no result. null: all at once.",
    )
    pack_tokens: Tokens | None = Field(
        None,
        ge=1,
        description="Length of a row that holds several examples, without attention between "
        "them. null: one example in a row.",
    )
    activation_checkpointing: bool = Field(
        False, description="Compute activations twice in place of storing them: less memory."
    )
    offload: Literal["none", "optimizer", "parameters"] = Field(
        "none",
        description="What is kept in the host's memory: the optimizer's state (from zero_stage "
        "1), or the parameters too (zero_stage 3).",
    )
    resume_every: Steps | None = Field(
        None,
        description="Training saves a state to resume from every so many steps, beside that "
        "at the end of each epoch. null: at epochs only.",
    )
    keep_states: int = Field(1, ge=1, description="Number of such states kept, the newest.")
    overlap: bool = Field(
        True,
        description="Whether a checkpoint is sampled and scored while the training that wrote it "
        "goes on.",
    )
    max_failures: int = Field(
        2, ge=0, description="How often a failed trial or training run is started again."
    )
    max_concurrent_trials: int = Field(1, ge=1, description="Trials that run at the same time.")
    ray_address: str | None = Field(
        None,
        description="Ray cluster to join. null: that of the variable RAY_ADDRESS, or a Ray "
        "started for this command.",
    )
    num_cpus: int | None = Field(
        None, ge=1, description="CPUs of a Ray started for this command. null: the machine's."
    )
    dashboard: bool = Field(True, description="Whether a Ray started here shows its dashboard.")
    dashboard_port: Port = Field(8265, description="Port of that dashboard.")
    mlflow_uri: str | None = Field(
        None, description="MLflow tracking server. null: an SQLite file in `root`."
    )
    min_free_mib: Annotated[int, Unit("MiB")] = Field(
        512, ge=0, description="Free space that `root` must have at the start."
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
