"""What vLLM is told of a decoder follows from the decoder's own fields."""

from __future__ import annotations

import subprocess
import sys

from forkdiv.core.config.decoder import KNOBS, DecoderConfig
from forkdiv.sample.engine_settings import _vllm_arguments
from tests.stack import ROOT


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
