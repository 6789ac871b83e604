"""What vLLM is told of a decoder follows from the decoder's own fields."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from forkdiv.core.config.decoder import KNOBS, DecoderConfig
from forkdiv.core.config.study import EngineConfig
from forkdiv.sample.engine_settings import (
    EngineSpec,
    _vllm_arguments,
    engine_arguments,
    environment,
)
from tests.stack import BASE, ROOT


def test_the_settings_that_vllm_has_are_passed_under_its_names() -> None:
    decoder = DecoderConfig(temperature=0.7, top_p=0.9, top_k=5, min_p=0.1, max_new_tokens=32)
    assert _vllm_arguments(decoder) == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "max_tokens": 32,
    }


def test_a_top_k_that_is_off_is_what_vllm_calls_off() -> None:
    assert _vllm_arguments(DecoderConfig())["top_k"] == -1
    assert _vllm_arguments(DecoderConfig(temperature=0))["temperature"] == 0


def test_every_field_of_a_decoder_says_where_else_it_is_known() -> None:
    assert set(KNOBS) == set(DecoderConfig.model_fields)


def test_it_is_known_without_importing_vllm() -> None:
    code = "import sys, forkdiv.sample.engine_settings; print('vllm' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def spec(device: str, **config: Any) -> EngineSpec:
    return EngineSpec(BASE, "bfloat16", device, EngineConfig.model_validate(config), ((1,),))


def test_on_a_gpu_graphs_are_captured_and_the_cache_takes_the_free_memory() -> None:
    gpu = engine_arguments(spec("gpu"))
    assert gpu["max_num_seqs"] is None  # vLLM's own, by the GPU's memory
    assert gpu["enforce_eager"] is False and gpu["kv_cache_memory_bytes"] is None
    asked = engine_arguments(spec("gpu", enforce_eager=True, kv_cache_gib=16))
    assert asked["enforce_eager"] is True and asked["kv_cache_memory_bytes"] == 16 * 2**30


def test_only_an_engine_that_shares_its_gpu_can_sleep() -> None:
    assert engine_arguments(spec("gpu"))["enable_sleep_mode"] is False
    assert engine_arguments(spec("gpu", while_training="sleep"), True)["enable_sleep_mode"] is True


def test_on_a_cpu_nothing_is_compiled_and_the_cache_is_small() -> None:
    cpu = spec("cpu")
    assert engine_arguments(cpu)["max_num_seqs"] == 256
    assert engine_arguments(spec("cpu", max_num_seqs=8))["max_num_seqs"] == 8
    assert engine_arguments(cpu)["enforce_eager"] is True
    assert environment(cpu)["VLLM_CPU_KVCACHE_SPACE"] == "1"
    asked = spec("cpu", enforce_eager=False, kv_cache_gib=3)
    assert engine_arguments(asked)["enforce_eager"] is False
    assert environment(asked)["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_texts_that_end_a_response_are_passed_and_decoded_for() -> None:
    """vLLM finds them in the text that it decodes, which it does for them only."""
    from forkdiv.sample.engine_settings import sampling_params

    plain = sampling_params(DecoderConfig(), 1, 0, 0, [2])
    ending = sampling_params(DecoderConfig(stop=("\n\n", "Question:")), 1, 0, 0, [2])
    assert (plain.stop, plain.detokenize) == ([], False)
    assert (ending.stop, ending.detokenize) == (["\n\n", "Question:"], True)


def test_a_response_ends_before_the_first_of_its_stop_texts() -> None:
    decoder = DecoderConfig(stop=("Q:", "\n\n"))
    assert decoder.before_stop("It is 4.\n\nQ: 5?") == "It is 4."
    assert decoder.before_stop("Q: 5?") == ""
    assert decoder.before_stop("It is 4.") == DecoderConfig().before_stop("It is 4.")
