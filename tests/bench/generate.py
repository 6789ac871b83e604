"""vLLM against transformers' `generate` in static batches, by model size, on CPU.

Responses of equal length, so that static batches waste nothing: the best case for them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from forkdiv.models.loading import load_model, load_tokenizer
from tests import small_llama
from tests.bench import offline
from tests.bench.row import Row
from tests.stack import BASE

PROMPTS, NEW_TOKENS = 32, 16
# hidden size, layers, responses to each prompt: fewer where a token costs more
SIZES = ((128, 4, 64), (256, 8, 32), (512, 8, 8), (1024, 12, 2))


def measure() -> list[Row]:
    rows = []
    for hidden, layers, n in SIZES:
        with tempfile.TemporaryDirectory() as name:
            rows.append(_compare(Path(name), hidden, layers, n))
    return rows


def _compare(folder: Path, hidden: int, layers: int, n: int) -> Row:
    tokenizer = load_tokenizer(BASE)
    heads = hidden // 64
    small_llama.write(
        folder / "model",
        tokenizer,
        hidden_size=hidden,
        intermediate_size=int(2.5 * hidden),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
    )
    model = load_model(folder / "model").eval()
    millions = model.num_parameters() / 1e6
    prompts = torch.randint(0, len(tokenizer), (PROMPTS, 48))
    theirs = _generate(model, prompts, n)
    del model
    asked = offline.running(
        folder, folder / "model", prompts.tolist(), n, max_tokens=NEW_TOKENS, whole=True
    )
    with asked as vllm:
        vllm.round()  # warms up
        tokens, seconds = vllm.round()
    ours = tokens / seconds
    return Row(
        f"vllm_vs_generate_{millions:.1f}M",
        ours / theirs,
        "times",
        f"transformers' generate, one batch of {PROMPTS * n}, {theirs:.0f} tokens/s",
    )


def _generate(model: Any, prompts: torch.Tensor, n: int) -> float:
    """Tokens per second, after a warm-up."""
    batch = prompts.repeat_interleave(n, dim=0)
    rates: list[float] = []
    for rows in (batch[:2], batch):
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                rows,
                attention_mask=torch.ones_like(rows),
                do_sample=True,
                top_k=0,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
            )
        made = int(out.shape[0] * (out.shape[1] - rows.shape[1]))
        rates.append(made / (time.perf_counter() - started))
    return rates[-1]
