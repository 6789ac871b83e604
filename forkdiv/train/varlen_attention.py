"""Attention between packed examples without a mask: torch's variable-length attention on GPUs.

A mask of a row of 4,096 tokens has 16 million entries and rules out the fast kernels; the
variable-length kernel gets where each example ends instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NAME = "forkdiv-varlen"
# what some architectures pass to their attention and the kernel cannot do
UNSUPPORTED = ("softcap", "s_aux", "position_bias")


def use(model: Any) -> None:
    """Makes the model compute attention with `attend`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)


def reason_against(config: Any, dtype: str) -> str | None:
    """Returns why a model with this config cannot use it, or None if it can."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if dtype == "float32":
        return "the kernel needs sft.dtype=bfloat16"
    if width % 8 or width > 256:
        return f"attention heads of {width} numbers; the kernel takes multiples of 8 up to 256"
    if getattr(config, "attn_logit_softcapping", None):
        return "the model caps its attention scores"
    if any(getattr(config, name, None) for name in ("attention_dropout", "attn_pdrop")):
        return "the model drops out attention in training"
    return None


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """Returns the attention output (1, tokens, heads, width) for `query`, `key` and `value`
    (1, heads, tokens, width). `given` has the boundaries of the examples under the names that
    transformers uses for flash attention: `cu_seq_lens_q` (examples + 1) and `max_length_q`.

    Raises RuntimeError for attention that the kernel cannot compute and that no setting of the
    config told of before.
    """
    asked = [name for name in UNSUPPORTED if given.get(name) is not None]
    if asked or dropout or attention_mask is not None or len(query) != 1:
        raise RuntimeError(
            "variable-length attention has no dropout, mask, or "
            f"{', '.join(UNSUPPORTED)}; set place.packed_attention=mask"
        )
    # the module's attribute may be replaced, by an older torch's form or in a test on CPU
    from torch.nn.attention import varlen

    boundaries, longest = given["cu_seq_lens_q"], given["max_length_q"]
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    output = varlen.varlen_attn(
        q,
        k,
        v,
        boundaries,
        boundaries,
        longest,
        longest,
        scale=scaling,
        window_size=(sliding_window - 1, 0) if sliding_window else (-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(output, Tensor)
    return output[None], None
