"""bf16 fine-tuning of a 0.5B model on one GPU: model FLOP utilisation, beside a bare PyTorch loop.

    python -m tests.bench.gpu [--architecture CONFIG.json] [--tokens 1024] [--batch 16] [--steps 8]

Not part of `make bench`: it takes what the machine's image has, and says what it could not run. No
Ray in it, only what runs in each of Ray Train's workers: a DeepSpeed engine and `Worker.step`.
Utilisation is the model's own arithmetic over the rate at which this GPU multiplies matrices in
bf16, measured first. The model's arithmetic is that of PaLM's appendix B (arXiv 2204.02311): 6
operations per parameter and token, and 12 · layers · width · length for attention; the
embedding counts once, as the output layer. Recomputed activations do not count.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
QWEN = ROOT / "jobs" / "configs" / "architectures" / "qwen2.5-0.5b.json"
WARM_UP = 3


def main() -> None:
    options = argparse.ArgumentParser(description="bf16 fine-tuning on this machine's GPU")
    options.add_argument("--architecture", type=Path, default=QWEN)
    options.add_argument("--tokens", type=int, default=1024)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--micro-batch", type=int, default=4)
    options.add_argument("--steps", type=int, default=8)
    asked = options.parse_args()
    needs = ("torch", "transformers", "safetensors", "pydantic", "deepspeed")
    missing = [name for name in needs if importlib.util.find_spec(name) is None]
    print("not there:", ", ".join(missing) or "nothing", flush=True)
    if {"torch", "transformers", "safetensors"} & set(missing):
        print("nothing can be measured without them")
        return
    import torch

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    print("device:", torch.cuda.get_device_name() if gpu else "CPU, a check of the script alone")
    # a CPU multiplies small and large matrices in bf16 so differently that a share says nothing
    rate = _matrix_rate(device) if gpu else None
    if rate:
        print(f"matrices in bf16: {rate / 1e12:.3g} TFLOP/s", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        each = _written(asked.architecture, folder, asked.tokens)
        ways: dict[str, Callable[[], Callable[[], Any]]] = {
            "a bare loop": lambda: _bare(folder, device, asked)
        }
        if not {"pydantic", "deepspeed"} & set(missing):
            ways["forkdiv's worker, DeepSpeed"] = lambda: _worker(folder, gpu, asked)
        else:
            print("not run: forkdiv's own worker")
        rates = {}
        for way, prepare in ways.items():
            seconds = _timed(prepare(), device, asked.steps)
            rates[way] = asked.batch * asked.tokens / seconds
            share = f", {100 * rates[way] * each / rate:.1f} % of the matrix rate" if rate else ""
            print(f"{way}: {rates[way]:,.0f} tokens/s{share}")
        if len(rates) == 2:
            bare, ours = rates.values()
            print(f"against the bare loop: {ours / bare:.3f} times")


def _matrix_rate(device: Any) -> float:
    """Operations a second of a large product in bf16."""
    import torch

    size = 8192
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    rounds = 20
    seconds = _timed(lambda: torch.mm(a, b), device, rounds)
    return 2 * size**3 / seconds


def _timed(step: Callable[[], Any], device: Any, rounds: int) -> float:
    """Seconds of one round, after a warm-up."""
    import torch

    for _ in range(WARM_UP):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / rounds


def _written(architecture: Path, folder: Path, tokens: int) -> float:
    """A checkpoint of random weights; returns the model's operations for one token."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    given = json.loads(architecture.read_text())
    config = AutoConfig.for_model(given.pop("model_type"), **given)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    parameters = sum(one.numel() for one in model.parameters())
    embedding = model.get_input_embeddings().weight.numel()
    counted = parameters - (0 if config.tie_word_embeddings else embedding)
    print(f"model: {parameters:,} parameters, {tokens} tokens to an example", flush=True)
    operations: int = 6 * counted + 12 * config.num_hidden_layers * config.hidden_size * tokens
    return operations


def _bare(folder: Path, device: Any, asked: argparse.Namespace) -> Callable[[], None]:
    """Weights and AdamW in bf16, passes of the same size, no copy of the weights in fp32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.0)
    ids = torch.randint(0, model.config.vocab_size, (asked.batch, asked.tokens), device=device)

    def step() -> None:
        for part in torch.split(ids, asked.micro_batch):
            loss = model(input_ids=part, labels=part, use_cache=False).loss
            (loss * len(part) / asked.batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _worker(folder: Path, gpu: bool, asked: argparse.Namespace) -> Callable[[], Any]:
    """What a Ray Train worker does at each step; half of an example is its response."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"DS_ACCELERATOR": "cuda" if gpu else "cpu", "DS_LOG_LEVEL": "error"}
    import torch

    from forkdiv.core.config.study import PlaceConfig, SftConfig
    from forkdiv.train.worker import Worker, new_engine

    torch.distributed.init_process_group("nccl" if gpu else "gloo")
    sft = SftConfig(batch_size=asked.batch, dtype="bfloat16", learning_rate=1e-5)
    place = PlaceConfig(
        device="gpu" if gpu else "cpu", workers=1, micro_batch=asked.micro_batch, zero_stage=1
    )
    engine = new_engine(folder, sft, place, 1)
    engine.train()
    vocabulary = engine.module.config.vocab_size
    half = asked.tokens // 2
    drawn = torch.randint(0, vocabulary, (asked.batch, asked.tokens)).tolist()
    rows = [(row[:half], row[half:]) for row in drawn]
    worker = Worker(engine, rows, torch.tensor([], dtype=torch.long), sft, place, 0, 1)
    return lambda: worker.step(range(asked.batch))


if __name__ == "__main__":
    main()
