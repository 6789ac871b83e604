"""What vLLM is told: of an engine when it starts, and of every request."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forkdiv.core.config.decoder import KNOBS, DecoderConfig
from forkdiv.core.config.study import EngineConfig, PromptConfig
from forkdiv.models.checkpoint import read_config

if TYPE_CHECKING:
    from vllm import SamplingParams

IN_PROCESS_EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is built from: one model shape, one dtype, and prompts to prove swaps by."""

    shape_of: Path
    dtype: str
    device: str
    config: EngineConfig
    proof_prompts: tuple[tuple[int, ...], ...]
    prompt: PromptConfig = field(default_factory=PromptConfig)
    repack_tied_embeddings: bool = True


def environment(spec: EngineSpec) -> dict[str, str]:
    """Variables that must be set before vLLM is imported."""
    shared = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if spec.device == "gpu":
        return shared
    # without a size vLLM takes a share of the whole machine's memory
    shared |= {"VLLM_CPU_KVCACHE_SPACE": str(spec.config.kv_cache_gib)}
    if spec.config.enforce_eager:
        # else the first proof waits three seconds for the ranks of log-probabilities to compile
        shared |= {"TORCHDYNAMO_DISABLE": "1"}
    return shared


def engine_arguments(spec: EngineSpec) -> dict[str, Any]:
    """vLLM's settings for an engine, whether it is asked through Serve or directly."""
    return {
        "model": str(spec.shape_of),
        "dtype": spec.dtype,
        "tensor_parallel_size": spec.config.tensor_parallel,
        "max_num_seqs": spec.config.max_num_seqs,
        "enforce_eager": spec.config.enforce_eager,
        "generation_config": "vllm",  # else the checkpoint's own top-p and top-k would apply
        "block_size": 32 if spec.device == "cpu" else None,  # 128 never caches short prompts
        # on CPU a variable says it; on a GPU the default would take nine tenths of it
        "kv_cache_memory_bytes": (
            spec.config.kv_cache_gib * 2**30 if spec.device == "gpu" else None
        ),
        "max_logprobs": -1,  # the proof reads whole distributions
        "logprobs_mode": "raw_logprobs",
        "disable_log_stats": True,
        "worker_extension_cls": "forkdiv.sample.vllm_worker.SwapExtension",
        "logits_processors": ["forkdiv.sample.logits_processors:DecoderProcessor"],
        **(_on_cpu(spec) if spec.device == "cpu" else {}),
    }


def _on_cpu(spec: EngineSpec) -> dict[str, Any]:
    # A prompt that is read in two parts ends vLLM's engine on CPU: it turns the seeded generator
    # of a response back, which torch's CPU generators do not offer.
    context = read_config(spec.shape_of).get("max_position_embeddings") or 0
    whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, context)}
    if spec.config.tensor_parallel > 1:
        return whole
    # By its class: of the name "uni" vLLM makes a process of its own for the model, which takes
    # as long again to start, and a core to wait for the other one.
    return whole | {"distributed_executor_backend": IN_PROCESS_EXECUTOR}


def set_threads(spec: EngineSpec) -> None:
    """Let an engine that is started next compute with a thread per core but one, as vLLM does
    where the model has a process of its own; Ray leaves a replica's children one."""
    if spec.device != "cpu" or spec.config.tensor_parallel > 1:
        return
    from vllm.utils.cpu_resource_utils import get_allowed_cpu_list

    cores = {(one.numa_node, one.physical_core) for one in get_allowed_cpu_list()}
    os.environ["OMP_NUM_THREADS"] = str(max(1, len(cores) - 1))


def sampling_params(decoder: DecoderConfig, n: int, seed: int, first_index: int) -> SamplingParams:
    """What vLLM is asked for: `n` responses, the first of them sample `first_index`. What vLLM
    does not know itself are arguments of `logits_processors`."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    arguments: dict[str, float] = {}
    temperature = decoder.temperature
    if decoder.top_n_sigma is not None:
        arguments["top_n_sigma"] = decoder.top_n_sigma
    if decoder.hot_temperature is not None and decoder.gate_entropy is not None:
        arguments |= {"gate_entropy": decoder.gate_entropy, "cold_temperature": temperature}
        temperature = decoder.hot_temperature
    if decoder.first_tokens:
        first = {"first_index": first_index, "first_seed": seed}
        arguments |= {"first_tokens": decoder.first_tokens, **first}
    return SamplingParams(
        n=n,
        seed=seed,
        **_vllm_arguments(decoder) | {"temperature": temperature},
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args=arguments or None,
    )


def _vllm_arguments(decoder: DecoderConfig) -> dict[str, Any]:
    """The decoder's settings that vLLM knows itself, under its names."""
    values = {knob.vllm: (getattr(decoder, name), knob.vllm_off) for name, knob in KNOBS.items()}
    return {
        argument: off if off is not None and not value else value
        for argument, (value, off) in values.items()
        if argument is not None
    }
