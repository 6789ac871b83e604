"""The settings of vLLM: of an engine, and of every request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forkdiv.core.config.decoder import KNOBS, DecoderConfig
from forkdiv.core.config.study import EngineConfig, PromptConfig
from forkdiv.core.store import Store
from forkdiv.models.checkpoint import read_config
from forkdiv.models.cpu import WAITING, threads
from forkdiv.models.shape import context_length
from forkdiv.models.weights import parameter_count

if TYPE_CHECKING:
    from vllm import SamplingParams

CPU_KV_CACHE_GIB = 1
REPLICA_CPUS = 0.1  # that Ray reserves for an engine
CPU_SEQUENCES = 256
IN_PROCESS_EXECUTOR = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


@dataclass(frozen=True)
class EngineSpec:
    """The settings of an engine: the checkpoint `shape_of`, whose architecture all served
    checkpoints share, the dtype, and some prompts (token ids) for the check of its outputs."""

    shape_of: Path
    dtype: str
    device: str
    config: EngineConfig
    proof_prompts: tuple[tuple[int, ...], ...]
    prompt: PromptConfig = field(default_factory=PromptConfig)
    worker_extension: str = "forkdiv.sample.vllm_worker.SwapExtension"  # another one in tests
    store: Store | None = None  # on S3-compatible storage: weights are copied when they are loaded


def environment(spec: EngineSpec) -> dict[str, str]:
    """Returns the environment variables that must be set before vLLM is imported."""
    shared = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if spec.device == "gpu":
        return shared
    shared |= WAITING
    # without it, vLLM allocates a share of the machine's memory
    shared |= {"VLLM_CPU_KVCACHE_SPACE": str(spec.config.kv_cache_gib or CPU_KV_CACHE_GIB)}
    if _is_eager(spec):
        # saves three seconds at the first proof, in which vLLM would compile a function for ranks
        shared |= {"TORCHDYNAMO_DISABLE": "1"}
    return shared


def engine_arguments(spec: EngineSpec, sleeps: bool = False) -> dict[str, Any]:
    """Returns vLLM's arguments for an engine; with `sleeps`, it can be put to sleep."""
    on_cpu = spec.device == "cpu"
    return {
        "model": str(spec.shape_of),
        "trust_remote_code": False,
        "dtype": spec.dtype,
        "tensor_parallel_size": spec.config.tensor_parallel,
        "max_num_seqs": spec.config.max_num_seqs or (CPU_SEQUENCES if on_cpu else None),
        "enforce_eager": _is_eager(spec),
        "generation_config": "vllm",  # otherwise the checkpoint's top-p and top-k would apply
        "block_size": 32 if on_cpu else None,  # 128 never caches short prompts
        # on CPU an environment variable sets it; on a GPU the default follows from its memory
        "kv_cache_memory_bytes": (
            spec.config.kv_cache_gib * 2**30
            if spec.device == "gpu" and spec.config.kv_cache_gib
            else None
        ),
        "max_logprobs": -1,  # a request may read the whole vocabulary's log-probabilities
        "logprobs_mode": "raw_logprobs",
        "disable_log_stats": True,
        "enable_sleep_mode": sleeps,
        "worker_extension_cls": spec.worker_extension,
        "logits_processors": ["forkdiv.sample.logits_processors:DecoderProcessor"],
        **(_on_cpu(spec) if on_cpu else {}),
    }


def _is_eager(spec: EngineSpec) -> bool:
    eager = spec.config.enforce_eager
    return spec.device == "cpu" if eager is None else eager


def _on_cpu(spec: EngineSpec) -> dict[str, Any]:
    # Chunked prefill crashes vLLM's engine on CPU: it rewinds a request's seeded generator, which
    # torch's CPU generators do not support.
    context = context_length(read_config(spec.shape_of)) or 0
    whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(4096, context)}
    if spec.config.tensor_parallel > 1:
        return whole
    # The class, not its name "uni": for the name, vLLM starts a separate process for the model,
    # which doubles the start time and uses a core for waiting.
    return whole | {"distributed_executor_backend": IN_PROCESS_EXECUTOR}


def set_threads(spec: EngineSpec) -> None:
    """Sets the threads of the next engine. Ray would limit it to one thread."""
    if spec.device != "cpu" or spec.config.tensor_parallel > 1:
        return
    number = spec.config.threads or threads(parameter_count(spec.shape_of), spec.config.replicas)
    os.environ["OMP_NUM_THREADS"] = str(number)


def sampling_params(
    decoder: DecoderConfig, n: int, seed: int, first_index: int, stop_ids: Sequence[int]
) -> SamplingParams:
    """Returns vLLM's sampling parameters for `n` samples that end at any of `stop_ids`. The first
    is sample `first_index` of its problem. Settings that vLLM does not have are passed to
    `logits_processors` in `extra_args`."""
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
        # the end token that vLLM knows is that of the engine's first checkpoint
        ignore_eos=True,
        stop_token_ids=list(stop_ids),
        stop=list(decoder.stop) or None,
        detokenize=bool(decoder.stop),  # vLLM finds these texts in what it has decoded
        output_kind=RequestOutputKind.FINAL_ONLY,
        extra_args=arguments or None,
    )


def _vllm_arguments(decoder: DecoderConfig) -> dict[str, Any]:
    """Returns the decoder's settings that vLLM has, under vLLM's names."""
    values = {knob.vllm: (getattr(decoder, name), knob.vllm_off) for name, knob in KNOBS.items()}
    return {
        argument: off if off is not None and not value else value
        for argument, (value, off) in values.items()
        if argument is not None
    }
