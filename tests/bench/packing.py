"""Several examples to a line of token ids, against one to a line and padding."""

from __future__ import annotations

import time
from random import Random

import torch

from forkdiv.core.config.study import SftConfig
from forkdiv.data.tokenized import Row
from forkdiv.models.loading import new_model, word_tokenizer
from forkdiv.train.collate import collate
from forkdiv.train.packing import forward_passes
from tests.bench.row import Row as Figure
from tests.train.logits import loss_of_logits

BATCH, ROUNDS, PACK = 64, 3, 256
WORDS = [f"w{i}" for i in range(100)]


def measure() -> list[Figure]:
    tokenizer = word_tokenizer(WORDS, "<eos>")
    model = new_model("tiny-llama", tokenizer, 0)
    rows = _mixed(Random(0))
    seconds = {"padded": 0.0, "packed": 0.0}
    for turn in range(ROUNDS + 1):  # the first warms up
        for name, pack in (("padded", None), ("packed", PACK)):
            started = time.perf_counter()
            _pass(model, rows, pack)
            seconds[name] += (time.perf_counter() - started) * bool(turn)
    tokens = ROUNDS * sum(len(prompt) + len(response) for prompt, response in rows)
    packed, padded = (tokens / seconds[name] for name in ("packed", "padded"))
    lengths = "16 to 256 tokens, most of them short, forward and backward"
    return [
        Figure("packing_vs_padding", packed / padded, "times the tokens/s", f"padding, {lengths}"),
        Figure("packed_tokens_per_s", packed, "tokens/s", f"batches of {BATCH}, {PACK} a line"),
    ]


def _mixed(random: Random) -> list[Row]:
    """Lengths as those of answers are: many short ones, a few long."""
    rows = []
    for _ in range(BATCH):
        length = min(16 + int(random.expovariate(1 / 40)), 256)
        ids = [random.randrange(3, 3 + len(WORDS)) for _ in range(length)]
        rows.append((ids[: length // 2], ids[length // 2 :]))
    return rows


def _pass(model: torch.nn.Module, rows: list[Row], pack: int | None) -> None:
    lengths = [len(prompt) + len(response) for prompt, response in rows]
    for parts in forward_passes(lengths, 1, None, pack):
        read = collate(rows, parts[0])
        logits = model(**read.inputs, use_cache=False).logits
        loss = loss_of_logits(logits, read.targets, read.first, SftConfig())
        loss.backward()  # type: ignore[no-untyped-call]
