"""The attention kernel, the noise of bfloat16 on the real model, and one training step, each
against float32 on CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forkdiv.core.config.study import PlaceConfig, PromptConfig, SftConfig
from forkdiv.data.tokenized import Row
from forkdiv.models.loading import load_model, load_tokenizer
from forkdiv.models.prompting import encode
from forkdiv.train import varlen_attention
from tests.gpu.rows import DEVICE, GPU, KIND, Rows, arguments, join_process_group, worker

FLOOR = -13.8155  # log 1e-6: less likely tokens are not compared
TEXTS = [
    ("What is the capital of Kenya?", "Nairobi is the capital of Kenya."),
    ("Add 17 and 25.", "17 + 25 = 42. The answer is 42."),
    ("Why is the sky blue?", "Short wavelengths of sunlight are scattered more by the air."),
    ("Write a haiku about rain.", "Grey drops on the roof,\nthe gutter hums an old song,\nnight."),
    ("Solve x + 3 = 10.", "Subtract 3 from both sides.\nx = 10 - 3 = 7.\nSo x = 7."),
    ("Name three primes above 20.", "23, 29 and 31 are primes: none has a divisor below 6."),
    ("Sort the words: pear, apple, fig.", "apple, fig, pear"),
    ("Is 91 prime?", "No. 91 = 7 * 13, so it has divisors other than 1 and itself."),
]


def main() -> None:
    model, add = arguments()
    join_process_group()
    if GPU:
        _kernel(add)
    _noise(model, add)
    _step(model, add)


def _kernel(add: Rows) -> None:
    """`attend` against attention example by example in float32: output and gradients."""
    lengths, heads, width = [5, 300, 64, 1, 2000], (9, 3), 64
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=DEVICE)
    torch.manual_seed(0)
    shapes = [(1, h, sum(lengths), width) for h in (heads[0], heads[1], heads[1])]
    given = [torch.randn(shape, device=DEVICE, dtype=torch.bfloat16) for shape in shapes]
    upstream = torch.randn((1, sum(lengths), heads[0], width), device=DEVICE)
    for window in (None, 50):
        q, k, v = tensors = [x.clone().requires_grad_() for x in given]
        output, _ = varlen_attention.attend(
            torch.nn.Module(),
            q,
            k,
            v,
            None,
            scaling=width**-0.5,
            sliding_window=window,
            cu_seq_lens_q=ends,
            max_length_q=max(lengths),
        )
        found = [output, *torch.autograd.grad((output.float() * upstream).sum(), tensors)]
        exact = [x.float().requires_grad_() for x in given]
        reference = _by_example(exact, ends.tolist(), window)
        wanted = [reference, *torch.autograd.grad((reference * upstream).sum(), exact)]
        for name, a, b in zip(("output", "dq", "dk", "dv"), found, wanted, strict=True):
            note = f"relative, 9 heads on 3, window {window}"
            add(f"varlen kernel {name}", _apart(a, b), "", note)


def _by_example(qkv: list[Tensor], ends: list[int], window: int | None) -> Tensor:
    out = []
    for start, end in itertools.pairwise(ends):
        at = torch.arange(end - start, device=DEVICE)
        distance = at[:, None] - at[None]
        allowed = (distance >= 0) & (distance < (window or end))
        q, k, v = (x[:, :, start:end] for x in qkv)
        attended = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=allowed, enable_gqa=True
        )
        out.append(attended.transpose(1, 2))
    return torch.cat(out, 1)


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a.float().cpu() - b.float().cpu()).norm() / b.float().cpu().norm())


def _noise(folder: Path, add: Rows) -> None:
    """Log-probabilities after every token of the texts, in each precision and place."""
    tokenizer = load_tokenizer(folder)
    ids = [tokenizer(f"{a}\n{b}")["input_ids"] for a, b in TEXTS]
    cpu = torch.device("cpu")
    exact = _logprobs(folder, ids, torch.float32, cpu)
    ways: dict[str, Callable[[], Tensor]] = {
        "CPU bfloat16": lambda: _logprobs(folder, ids, torch.bfloat16, cpu),
        "device float32": lambda: _logprobs(folder, ids, torch.float32, DEVICE),
        "device bfloat16": lambda: _logprobs(folder, ids, torch.bfloat16, DEVICE),
        "device bfloat16, in one batch": lambda: _logprobs(
            folder, ids, torch.bfloat16, DEVICE, together=True
        ),
        "device float16": lambda: _logprobs(folder, ids, torch.float16, DEVICE),
    }
    found = {}
    for name, way in ways.items():
        found[name] = way()
        _difference(add, f"{name} vs float32", found[name], exact)
    alone, batch = (found[name] for name in list(ways)[2:4])
    _difference(add, "device bfloat16 in one batch vs alone", batch, alone)
    _difference(add, "device vs CPU, both bfloat16", alone, found["CPU bfloat16"])
    # what a proof by outputs can see: weights moved a little, and by a lot
    for scale in (1e-4, 1e-3, 1e-2):
        moved_exact = _logprobs(folder, ids, torch.float32, cpu, scale=scale)
        moved = _logprobs(folder, ids, torch.bfloat16, DEVICE, scale=scale)
        _slope(add, f"weights ±{scale:g} of their size", moved_exact - exact, moved - alone)


def _logprobs(
    folder: Path,
    ids: list[list[int]],
    dtype: torch.dtype,
    device: torch.device,
    together: bool = False,
    scale: float = 0.0,
) -> Tensor:
    """Float64 (positions, vocabulary); `scale`: each weight is multiplied by 1 ± about this."""
    model = load_model(folder, dtype).eval()
    random = torch.Generator().manual_seed(3)
    if scale:
        with torch.no_grad():
            for weight in model.parameters():
                noise = torch.randn(weight.shape, generator=random)
                weight.copy_((weight.float() * (1 + scale * noise)).bfloat16())
    model.to(device)
    with torch.inference_mode():
        if together:
            width = max(map(len, ids))
            padded = torch.tensor([one + [0] * (width - len(one)) for one in ids], device=device)
            logits = model(padded, use_cache=False).logits
            parts = [logits[i, : len(one)] for i, one in enumerate(ids)]
        else:
            parts = [model(torch.tensor([o], device=device)).logits[0] for o in ids]
    return torch.cat([torch.log_softmax(part.double().cpu(), -1) for part in parts])


def _difference(add: Rows, name: str, a: Tensor, b: Tensor) -> None:
    likely = b > FLOOR
    difference = (a - b)[likely].abs()
    greedy = (a.argmax(-1) == b.argmax(-1)).double().mean()
    kl = (b.exp() * (b - a)).sum(-1)
    note = f"mean {difference.mean():.2g}, KL mean {kl.mean():.2g} max {kl.max():.2g}, "
    add(
        name, float(difference.max()), "nats, max", note + f"same greedy token {100 * greedy:.1f} %"
    )


def _slope(add: Rows, name: str, wanted: Tensor, found: Tensor) -> None:
    """The slope of found on wanted change of each text's tokens, with its standard error over
    positions."""
    weight = (wanted.abs().amax(-1) > 0).double()
    sxy, sxx = (wanted * found).mean(-1), (wanted * wanted).mean(-1)
    slope = float(sxy.sum() / sxx.sum())
    residual = (sxy - slope * sxx) / sxx.mean()
    error = float(residual.std() / len(residual) ** 0.5)
    add(f"slope, {name}", slope, "", f"± {error:.2g} over {int(weight.sum())} positions")


WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "float32, padded": ({}, {"dtype": "float32"}),
    "float32, mask": ({"pack_tokens": 256}, {"dtype": "float32"}),
    "float32, parts": ({"logits_gib": 0.02}, {"dtype": "float32"}),
    "bfloat16, padded": ({}, {}),
    "bfloat16, passes": ({"micro_batch": 2}, {}),
    "bfloat16, mask": ({"pack_tokens": 256, "packed_attention": "mask"}, {}),
    "bfloat16, varlen": ({"pack_tokens": 256}, {}),
    "bfloat16, varlen, parts, checkpointing": (
        {"pack_tokens": 256, "logits_gib": 0.02, "activation_checkpointing": True},
        {},
    ),
    "bfloat16, stage 3, varlen, parts": (
        {"pack_tokens": 256, "logits_gib": 0.02, "zero_stage": 3},
        {},
    ),
}


def _step(folder: Path, add: Rows) -> None:
    """Loss and gradient of one step, by DeepSpeed in each way, against plain float32 on CPU."""
    tokenizer = load_tokenizer(folder)
    rows = [encode(tokenizer, a, b, PromptConfig()) for a, b in TEXTS * 2]
    loss, gradient = _plain(folder, rows)
    for name, (place, sft) in WAYS.items():
        settings = {"batch_size": len(rows), "dtype": "bfloat16", "learning_rate": 1e-5} | sft
        placed = PlaceConfig.model_validate({"device": KIND, "workers": 1, "zero_stage": 1} | place)
        config = SftConfig.model_validate(settings)
        dtype = torch.float32 if config.dtype == "float32" else torch.bfloat16
        with worker(partial(load_model, folder, dtype), rows, config, placed) as run:
            found: dict[str, Tensor] = {}
            with _before_step(run.engine, found):
                got, _ = run.step(range(len(rows)))
        cosine, size = _compared(found, gradient)
        note = f"gradient: cosine {cosine:.6f}, norm ratio {size:.5f}"
        add(f"step, {name}", float(got) / loss - 1, "of loss", note)


def _plain(folder: Path, rows: list[Row]) -> tuple[float, dict[str, Tensor]]:
    model = load_model(folder, torch.float32).train()
    total = sum(len(response) for _, response in rows)
    summed = 0.0
    for prompt, response in rows:
        logits = model(torch.tensor([prompt + response]), use_cache=False).logits
        own = torch.log_softmax(logits[0, len(prompt) - 1 : -1].float(), -1)
        loss = -own[range(len(response)), response].sum() / total
        loss.backward()  # type: ignore[no-untyped-call]
        summed += float(loss)
    return summed, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@contextmanager
def _before_step(engine: Any, gradients: dict[str, Tensor]) -> Iterator[None]:
    """Keeps the whole gradient of each weight, in float32, in place of the optimizer's step."""
    from deepspeed.utils import safe_get_full_grad

    def keep() -> None:
        for name, weight in engine.module.named_parameters():
            gradients[name] = safe_get_full_grad(weight).float().cpu()

    engine.step = keep
    yield


def _compared(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> tuple[float, float]:
    """The cosine of the two whole gradients, and the ratio of their norms."""
    a, b = (torch.cat([g[name].flatten().double() for name in wanted]) for g in (found, wanted))
    return float(a @ b / (a.norm() * b.norm())), float(a.norm() / b.norm())


if __name__ == "__main__":
    main()
