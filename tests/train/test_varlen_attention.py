"""Packed examples with variable-length attention. The kernel runs on GPUs only: a loop over the
examples takes its place here, `make gpu-check` compares the kernel itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen
from transformers import AutoConfig, AutoModelForCausalLM

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.core.errors import UserError
from forkdiv.data.tokenized import Row
from forkdiv.train import varlen_attention
from forkdiv.train.collate import collate
from forkdiv.train.deepspeed_engine import separate_packed

ROWS: list[Row] = [([5, 6, 7], [8, 1]), ([9], [10, 11, 1]), ([3, 4], [1]), ([2], [5, 6, 7, 8, 1])]
SMALL = {"vocab_size": 37, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 24}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
GPU = PlaceConfig(device="gpu", pack_tokens=64)


def kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ends: Tensor,
    ends_k: Tensor,
    most: int,
    most_k: int,
    **how: Any,
) -> Tensor:
    """The kernel by its documentation: (tokens, heads, width), example by example."""
    assert most == int(ends.diff().max()) and ends.dtype == torch.int32
    assert how["enable_gqa"] == (q.shape[1] != k.shape[1])
    left, right = how["window_size"]
    out = []
    for start, end in zip(ends.tolist(), ends.tolist()[1:], strict=False):
        at = torch.arange(end - start)
        distance = at[:, None] - at[None, :]
        allowed = (distance >= -right) & ((distance <= left) if left >= 0 else True)
        query, keys, values = (x[start:end].transpose(0, 1) for x in (q, k, v))
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=allowed, scale=how["scale"], enable_gqa=True
        )
        out.append(attended.transpose(0, 1))
    return torch.cat(out)


def model_of(kind: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL | settings)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("gpt_neox", {}),
        ("mistral", {"sliding_window": 3}),
        ("gemma3_text", {"sliding_window": 2, "query_pre_attn_scalar": 8}),
    ],
)
def test_a_packed_example_has_the_logits_that_it_has_alone(
    kind: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    model = model_of(kind, **settings)
    alone = [model(torch.tensor([p + r]), use_cache=False).logits[0] for p, r in ROWS]
    varlen_attention.use(model)
    inputs = collate(ROWS, [(0, 1), (2, 3)], boundaries=True).inputs
    packed = model(**inputs, use_cache=False).logits[0]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_it_is_chosen_on_a_gpu_in_bfloat16_and_leaves_no_trace_in_the_checkpoint(
    tmp_path: Any,
) -> None:
    model = model_of("llama")
    separate_packed(model, SftConfig(dtype="bfloat16"), GPU)
    assert model.config._attn_implementation == varlen_attention.NAME
    model.save_pretrained(tmp_path)
    assert varlen_attention.NAME not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(
    ("place", "sft", "settings", "reason"),
    [
        (GPU, SftConfig(), {}, "bfloat16"),
        (PlaceConfig(pack_tokens=64), SftConfig(dtype="bfloat16"), {}, "place.device=gpu"),
        (GPU, SftConfig(dtype="bfloat16"), {"head_dim": 12}, "heads of 12 numbers"),
        (GPU, SftConfig(dtype="bfloat16"), {"attention_dropout": 0.1}, "drops out attention"),
    ],
)
def test_where_it_cannot_be_used_a_mask_is_and_asking_for_it_is_refused(
    place: PlaceConfig, sft: SftConfig, settings: dict[str, Any], reason: str
) -> None:
    model = model_of("llama", **settings)
    separate_packed(model, sft, place)
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(UserError, match=reason):
        separate_packed(model, sft, place.model_copy(update={"packed_attention": "varlen"}))


def test_attention_that_the_kernel_cannot_compute_is_not_computed_wrongly() -> None:
    model = model_of("gemma2", attn_logit_softcapping=5.0)
    assert varlen_attention.reason_against(model.config, "bfloat16")
    varlen_attention.use(model)
    with pytest.raises(RuntimeError, match="packed_attention=mask"):
        model(**collate(ROWS, [(0, 1)], boundaries=True).inputs, use_cache=False)
