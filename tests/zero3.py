"""Two ranks at ZeRO stage 3: what loading, a step and saving take, and what comes out.

    python -m tests.zero3 [LAYERS]     a table for a Llama of some 300 million random weights

The files are in bfloat16; training in bfloat16 can map them, training in float32 must convert them.
Each way of loading runs in processes of its own: `partitioned` is forkdiv's, `whole` loads the
model in every rank before DeepSpeed partitions it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from forkdiv.terminal import say, show_table
from tests.stack import BASE, ROOT, clean_environment

WAYS = ("whole", "partitioned")
RANKS, BATCH, LENGTH = 2, 4, 16


def main(layers: int) -> None:
    """Prints the peak memory of each rank."""
    with tempfile.TemporaryDirectory() as folder:
        model, parameters = write_model(Path(folder) / "model", layers)
        rows = []
        for dtype in ("bfloat16", "float32"):
            for way in WAYS:
                found = run(model, way, Path(folder) / f"{way}-{dtype}", {"dtype": dtype})
                rows += [
                    [dtype, way, str(rank), *one["peaks_gib"].values()]
                    for rank, one in enumerate(found)
                ]
    say(f"{parameters:,} parameters, {parameters * 2 / 2**30:.2f} GiB in bfloat16, {RANKS} ranks")
    title = "peak GiB above imports: private (resident, with mapped files)"
    show_table(["training", "loaded", "rank", *found[0]["peaks_gib"]], rows, title=title)


def write_model(folder: Path, layers: int) -> tuple[Path, int]:
    """Writes a Llama of random weights; returns it and its number of parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(folder)
    return folder, model.num_parameters()


def run(model: Path, way: str, out: Path, sft: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what each rank found; the checkpoint after a step is in `out`/checkpoint."""
    out.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"DS_ACCELERATOR": "cpu", "DS_LOG_LEVEL": "error", "LOCAL_RANK": "0"}
    command = [sys.executable, "-m", "tests.zero3", str(model), way, str(out), json.dumps(sft)]
    ranks = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment() | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(RANKS)
    ]
    outputs = [rank.communicate(timeout=500)[0] for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), "\n".join(one[-4000:] for one in outputs)
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(RANKS)]


def rank_main(model: Path, way: str, out: Path, settings: dict[str, Any]) -> None:
    """What one rank does: loads, takes a step, and saves."""
    import deepspeed
    import torch

    from forkdiv.core.config.study import PlaceConfig, SftConfig
    from forkdiv.models import loading
    from forkdiv.models.loading import load_tokenizer
    from forkdiv.train import partitioned
    from forkdiv.train.deepspeed_engine import new_engine
    from forkdiv.train.malloc import keep_freed_memory
    from forkdiv.train.worker import Worker, export

    rank = int(os.environ["RANK"])
    keep_freed_memory()  # as every worker on a CPU does
    torch.distributed.init_process_group("gloo")
    if way == "whole":
        partitioned.load_partitioned = lambda path, dtype, deepspeed_config: loading.load_model(
            path, dtype
        )
    place = PlaceConfig(zero_stage=3)
    sft = SftConfig.model_validate({"batch_size": BATCH, **settings})
    memory, stock = _Memory(), deepspeed.initialize

    def initialize(**arguments: Any) -> Any:
        memory.note("loaded")
        return stock(**arguments)

    deepspeed.initialize = initialize
    engine = new_engine(model, sft, place, RANKS)
    memory.note("engine made")
    words = torch.randint(3, 20, (BATCH, 2, LENGTH), generator=torch.manual_seed(1)).tolist()
    rows = [(prompt, response) for prompt, response in words]
    worker = Worker(engine, rows, torch.tensor([], dtype=torch.long), sft, place, rank, RANKS)
    engine.train()
    losses = [float(worker.step(range(BATCH))[0]).hex() for _ in range(2)]
    memory.note("two steps")
    export(engine, sft, load_tokenizer(BASE), out / "checkpoint")
    memory.note("saved")
    found = {"peaks_gib": memory.peaks_gib, "losses": losses}
    (out / f"rank-{rank}.json").write_text(json.dumps(found))


class _Memory:
    """Peaks of this process's memory since the last note, above that at its start: private memory,
    sampled, and resident memory, in which files that are mapped count too."""

    def __init__(self) -> None:
        self._private, self._resident = _kib("RssAnon"), _kib("VmRSS")
        self.peaks_gib: dict[str, str] = {}
        self._peak = 0
        threading.Thread(target=self._sample, daemon=True).start()
        self._forget()

    def note(self, name: str) -> None:
        resident = (_kib("VmHWM") - self._resident) / 2**20
        self.peaks_gib[name] = f"{(self._peak - self._private) / 2**20:.2f} ({resident:.2f})"
        self._forget()

    def _forget(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._peak = 0

    def _sample(self) -> None:
        while True:
            self._peak = max(self._peak, _kib("RssAnon"))
            time.sleep(0.005)


def _kib(field: str) -> int:
    """Returns a field of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    if "RANK" in os.environ:
        rank_main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 17)
