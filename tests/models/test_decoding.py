"""Decoders against values worked out by hand, and the processor vLLM runs against the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

from forkdiv.core.config.decoder import DecoderConfig
from forkdiv.models.decoding import (
    Floats,
    distribution,
    entropy,
    first_candidates,
    softmax,
    top_n_sigma,
)
from forkdiv.sample.logits_processors import DecoderProcessor

P = np.array([0.5, 0.25, 0.15, 0.1])
LOGITS = np.log(P)
P_UNSURE = [0.4, 0.3, 0.2, 0.1]
MIXED = np.log([P_UNSURE, [0.97, 0.01, 0.01, 0.01]])  # unsure, sure

Rows = arrays(np.float64, (3, 7), elements=st.floats(-8, 8, width=32))
# in float32 and in float64 a token may lie on different sides of a limit
Decoders = st.builds(
    lambda temperature, sigma, gate, hot: DecoderConfig(
        temperature=temperature,
        top_n_sigma=sigma,
        gate_entropy=gate,
        hot_temperature=None if gate is None else hot,
    ),
    st.sampled_from([0.5, 1.0, 1.7]),
    st.sampled_from([None, 0.5, 1.0, 2.0]),
    st.sampled_from([None, 0.3, 1.0]),
    st.sampled_from([0.8, 1.5, 2.0]),
)


def shares(*values: float) -> Floats:
    return np.array(values) / sum(values)


@pytest.mark.parametrize(
    ("knobs", "want"),
    [
        ({}, P),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, shares(0.25, 0.0625, 0.0225, 0.01)),
        ({"temperature": 2.0}, shares(*np.sqrt(P))),
        ({"top_k": 2}, shares(0.5, 0.25, 0, 0)),
        ({"top_k": 9}, P),
        ({"top_p": 0.7}, shares(0.5, 0.25, 0, 0)),
        ({"top_p": 0.76}, shares(0.5, 0.25, 0.15, 0)),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"min_p": 0.25}, shares(0.5, 0.25, 0.15, 0)),
        # after the temperature: 0.25 : 0.0625 : 0.0225 are 1 : 0.25 : 0.09
        ({"min_p": 0.2, "temperature": 0.5}, shares(0.25, 0.0625, 0, 0)),
        # before top-p: of 0.5, 0.25, 0.15 over 0.9 the first two are 0.83 of what is left
        ({"min_p": 0.25, "top_p": 0.8}, shares(0.5, 0.25, 0, 0)),
        # the largest logit is -0.693, their standard deviation 0.591: 1σ keeps from -1.284 on
        ({"top_n_sigma": 1.0}, [1, 0, 0, 0]),
        ({"top_n_sigma": 1.2}, shares(0.5, 0.25, 0, 0)),
        ({"top_n_sigma": 1.2, "temperature": 2.0}, shares(0.5**0.5, 0.25**0.5, 0, 0)),
    ],
)
def test_a_decoder_gives_the_distribution_worked_out_by_hand(
    knobs: dict[str, Any], want: Any
) -> None:
    np.testing.assert_allclose(distribution(LOGITS, DecoderConfig(**knobs)), want, atol=1e-12)


def test_entropy_is_in_nats() -> None:
    np.testing.assert_allclose(entropy(np.zeros(8)), math.log(8))
    np.testing.assert_allclose(entropy([[0.0, -math.inf], [3.0, 3.0]]), [0.0, math.log(2)])


def test_a_gate_is_hot_only_where_the_model_is_unsure() -> None:
    gated = DecoderConfig(temperature=0.5, gate_entropy=0.5, hot_temperature=2.0)
    unsure, sure = distribution(MIXED, gated)
    np.testing.assert_allclose(unsure, distribution(MIXED[0], DecoderConfig(temperature=2.0)))
    np.testing.assert_allclose(sure, distribution(MIXED[1], DecoderConfig(temperature=0.5)))
    sharp = DecoderConfig(temperature=0.0, gate_entropy=0.5, hot_temperature=1.0)
    unsure, sure = distribution(MIXED, sharp)
    np.testing.assert_allclose(unsure, P_UNSURE)
    np.testing.assert_allclose(sure, [1, 0, 0, 0])


@given(Rows, st.floats(0.1, 3.0))
def test_top_n_sigma_keeps_the_same_tokens_at_every_temperature(logits: Floats, n: float) -> None:
    # powers of two scale without rounding
    kept = np.isfinite(top_n_sigma(logits, n))
    assert (kept == np.isfinite(top_n_sigma(4 * logits, n))).all()
    assert kept[np.arange(3), logits.argmax(-1)].all()


@given(Rows, st.floats(0.05, 1.0), st.integers(0, 8), st.floats(0.0, 1.0))
def test_what_is_cut_is_always_less_likely_than_what_stays(
    logits: Floats, top_p: float, top_k: int, min_p: float
) -> None:
    p = distribution(logits, DecoderConfig(top_p=top_p, top_k=top_k, min_p=min_p))
    np.testing.assert_allclose(p.sum(-1), 1.0)
    raw = softmax(logits)
    for row, whole in zip(p, raw, strict=True):
        assert whole[row == 0].max(initial=0) <= whole[row > 0].min() + 1e-15
        # what stays keeps its proportions
        np.testing.assert_allclose(row[row > 0] / row.max(), whole[row > 0] / whole.max())


def test_first_candidates_come_likeliest_first_and_equals_by_id() -> None:
    assert first_candidates([[1.0, 3.0, 3.0, 2.0]], 3).tolist() == [[1, 2, 3]]
    with pytest.raises(ValueError, match="first_tokens=5 exceeds the vocabulary of 4"):
        first_candidates(LOGITS, 5)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"gate_entropy": 1.0}, "must be set together"),
        ({"hot_temperature": 1.0}, "must be set together"),
        ({"gate_entropy": 1.0, "hot_temperature": 0.0}, "hot_temperature=0"),
        ({"first_tokens": 1}, "first_tokens=1 has no effect"),
        ({"tree_samples": 1}, "tree_samples=1 has no effect"),
        ({"first_tokens": 2, "tree_samples": 2}, "cannot be combined"),
        ({"first_tokens": 2, "temperature": 0.0}, "identical samples"),
        ({"fork_entropy": 0.1}, "no effect without tree_samples"),
        ({"branch_probability": 0.1}, "no effect without tree_samples"),
        ({"min_p": 1.5}, "min_p"),
        ({"top_n_sigma": 0.0}, "top_n_sigma"),
        ({"nucleus": 0.9}, "nucleus"),
    ],
)
def test_knobs_that_do_not_fit_together_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecoderConfig(**knobs)


# The processor itself, on the batches that vLLM would show it.


def processor() -> DecoderProcessor:
    return DecoderProcessor(None, torch.device("cpu"), False)


def asking(decoder: DecoderConfig) -> SamplingParams:
    """What the engine asks vLLM for."""
    from forkdiv.sample.engine_settings import sampling_params

    return sampling_params(decoder, n=1, seed=7, first_index=0, stop_ids=(1,))


def added(*rows: tuple[int, SamplingParams, list[int]], size: int = 4) -> BatchUpdate:
    return BatchUpdate(size, [], [(i, params, [1], output) for i, params, output in rows], [])


def sampled_by(params: SamplingParams, logits: torch.Tensor) -> Floats:
    """vLLM's own last steps after the processor, for the knobs that the processor knows."""
    return np.asarray(torch.softmax(logits.double() / params.temperature, -1).numpy())


@given(Rows, Decoders)
def test_the_processor_and_a_temperature_give_the_reference_distribution(
    logits: Floats, decoder: DecoderConfig
) -> None:
    vllm_processor, params = processor(), asking(decoder)
    vllm_processor.validate_params(params)
    vllm_processor.update_state(added(*((row, params, []) for row in range(3)), size=3))
    out = sampled_by(params, vllm_processor.apply(torch.tensor(logits, dtype=torch.float32)))
    want = distribution(logits, decoder)
    for row in range(3):
        if not on_a_limit(logits[row], decoder):
            np.testing.assert_allclose(out[row], want[row], atol=2e-5)


def on_a_limit(logits: Floats, decoder: DecoderConfig) -> bool:
    gate, sigma = decoder.gate_entropy, decoder.top_n_sigma
    near_gate = gate is not None and abs(float(entropy(logits)) - gate) < 1e-4
    limit = 0.0 if sigma is None else logits.max() - sigma * logits.std()
    near_sigma = sigma is not None and float(np.abs(logits - limit).min()) < 1e-4
    return near_gate or near_sigma


def test_a_gate_that_is_greedy_when_cold_takes_the_likeliest_token() -> None:
    vllm_processor = processor()
    params = asking(DecoderConfig(temperature=0.0, gate_entropy=0.5, hot_temperature=2.0))
    vllm_processor.update_state(added((0, params, []), (1, params, []), size=2))
    out = sampled_by(params, vllm_processor.apply(torch.tensor(MIXED, dtype=torch.float32)))
    np.testing.assert_allclose(out[1], [1, 0, 0, 0])
    np.testing.assert_allclose(out[0], shares(*np.sqrt(P_UNSURE)), rtol=1e-5)


def test_a_first_token_is_forced_once_and_by_the_seed_of_the_response() -> None:
    vllm_processor, params = processor(), asking(DecoderConfig(first_tokens=3))
    outputs: list[list[int]] = [[], [], [], []]
    children = [params.clone() for _ in outputs]
    for child, params in enumerate(children):
        assert params.seed is not None
        params.seed += child  # as vLLM seeds the responses of one request
    vllm_processor.update_state(added(*((i, children[i], outputs[i]) for i in range(4))))
    logits = torch.tensor(LOGITS, dtype=torch.float32).flip(0).repeat(4, 1)
    out = vllm_processor.apply(logits.clone())
    assert out.argmax(-1).tolist() == [3, 2, 1, 3]
    assert torch.isfinite(out).sum(-1).tolist() == [1, 1, 1, 1]
    for output in outputs:
        output.append(5)
    assert torch.equal(vllm_processor.apply(logits.clone()), logits)


def test_arguments_follow_their_request_when_it_moves_and_end_with_it() -> None:
    vllm_processor = processor()
    sharp, first = DecoderConfig(top_n_sigma=0.5), DecoderConfig(first_tokens=2)
    plain = SamplingParams(temperature=1.0)
    vllm_processor.update_state(
        added((0, asking(sharp), []), (1, plain, []), (2, asking(first), []))
    )
    logits = torch.tensor(LOGITS, dtype=torch.float32).repeat(4, 1)

    def kept() -> list[int]:
        return torch.isfinite(vllm_processor.apply(logits.clone())).sum(-1).tolist()

    assert kept() == [1, 4, 1, 4]
    vllm_processor.update_state(BatchUpdate(4, [], [], [(0, 1, MoveDirectionality.SWAP)]))
    assert kept() == [4, 1, 1, 4]
    vllm_processor.update_state(BatchUpdate(3, [2], [(1, plain, [1], [])], []))
    assert kept() == [4, 4, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_sigma": 1.0}, "unknown decoder argument top_sigma, got 1.0; allowed: top_n_sigma"),
        ({"top_n_sigma": "1"}, "top_n_sigma is out of range: got '1'; allowed: a number"),
        ({"top_n_sigma": True}, "top_n_sigma is out of range: got True"),
        ({"top_n_sigma": math.nan}, "top_n_sigma is out of range: got nan"),
        ({"gate_entropy": 1.0}, "must be set together: cold_temperature is missing"),
        ({"gate_entropy": -1.0, "cold_temperature": 1.0}, "gate_entropy is out of range: got -1.0"),
        ({"first_tokens": 2.5, "first_index": 0, "first_seed": 0}, "an integer of at least 2"),
        ({"first_tokens": 2, "first_index": 0, "first_seed": 0}, "needs a seed"),
    ],
)
def test_arguments_of_a_request_that_mean_nothing_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderProcessor.validate_params(SamplingParams(extra_args=arguments))


def test_a_gate_without_a_hot_temperature_is_refused() -> None:
    gate = {"gate_entropy": 1.0, "cold_temperature": 1.0}
    with pytest.raises(ValueError, match="gate_entropy needs a temperature"):
        DecoderProcessor.validate_params(SamplingParams(temperature=0.0, extra_args=gate))
