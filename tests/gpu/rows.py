"""What a part of the GPU check measured, and what the parts share."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import torch

from forkdiv.core.config.study import PlaceConfig, SftConfig
from forkdiv.data.tokenized import Row

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
KIND = "gpu" if GPU else "cpu"
# Architectures by name, as their publishers' config.json has them.
QWEN_05 = {"hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864}
QWEN_05 |= {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
QWEN_15 = {"hidden_size": 1536, "num_hidden_layers": 28, "intermediate_size": 8960}
QWEN_15 |= {"num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True}
QWEN_7 = {"hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944}
QWEN_7 |= {"num_attention_heads": 28, "num_key_value_heads": 4, "tie_word_embeddings": False}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
QWEN = {"vocab_size": 151_936, "max_position_embeddings": 32_768}


class Rows:
    """The rows of a part, written as they are measured."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, name: str, value: float, unit: str, note: str = "") -> None:
        row = {"name": name, "value": float(value), "unit": unit, "note": note}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def arguments() -> tuple[Path, Rows]:
    """The model's folder and the rows."""
    return Path(sys.argv[1]), Rows(sys.argv[2])


def join_process_group() -> None:
    """One rank, as Ray Train's workers have it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"DS_ACCELERATOR": "cuda" if GPU else "cpu", "DS_LOG_LEVEL": "error"}
    torch.distributed.init_process_group("nccl" if GPU else "gloo")
    accept_older_torch()


def accept_older_torch() -> None:
    """torch 2.11's variable-length attention takes fewer key heads without being told to."""
    import inspect

    from torch.nn.attention import varlen

    kernel: Any = varlen.varlen_attn
    if "enable_gqa" in inspect.signature(kernel).parameters:
        return

    def with_fewer_key_heads(*given: Any, enable_gqa: bool, **how: Any) -> Any:
        return kernel(*given, **how)

    varlen.varlen_attn = with_fewer_key_heads  # type: ignore[assignment]


def architecture(shape: dict[str, Any]) -> dict[str, Any]:
    """The config.json of a Qwen2 model of this shape; a tiny one where there is no GPU."""
    small = QWEN | {"vocab_size": 2_000} | TINY
    return {"model_type": "qwen2"} | (QWEN | shape if GPU else small)


def random_model(shape: dict[str, Any], dtype: torch.dtype = torch.bfloat16) -> Any:
    """A model of random weights, made on the device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    given = architecture(shape)
    config = AutoConfig.for_model(given.pop("model_type"), **given)
    torch.manual_seed(0)
    with DEVICE:
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


@contextmanager
def worker(
    model: Callable[[], Any], rows: list[Row], sft: SftConfig, place: PlaceConfig
) -> Iterator[Any]:
    """What a Ray Train worker runs, with `model()` in place of a checkpoint's weights."""
    from forkdiv.models import loading
    from forkdiv.train import varlen_attention
    from forkdiv.train.deepspeed_engine import new_engine
    from forkdiv.train.worker import Worker

    before = loading.load_model
    loading.load_model = lambda *_: model()
    try:
        engine = new_engine(Path("/nowhere"), sft, place, 1)
    finally:
        loading.load_model = before
    engine.train()
    ends = engine.module.config._attn_implementation == varlen_attention.NAME
    no_lines = torch.tensor([], dtype=torch.long)
    made = Worker(engine, rows, no_lines, sft, place, 0, 1, ends)
    yield made
    engine.destroy()
    # whoever holds the worker still, as the target of a `with`, holds no memory of the GPU
    engine.module.to("meta")
    engine.module = engine.optimizer = engine.basic_optimizer = None
    del engine
    free()


def free() -> None:
    """Gives unused memory back, and forgets the peak."""
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def mixed_rows(count: int, vocabulary: int, longest: int, seed: int = 0) -> list[Row]:
    """Lengths as those of answers are: many short ones, a few long; half of each is response."""
    random = Random(seed)
    rows = []
    for _ in range(count):
        length = min(longest, 16 + int(random.expovariate(4 / longest)))
        ids = [random.randrange(1, vocabulary) for _ in range(length)]
        rows.append((ids[: length // 2], ids[length // 2 :]))
    return rows


def synchronize() -> None:
    if GPU:
        torch.cuda.synchronize()
