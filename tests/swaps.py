"""Right and wrong swaps in one engine, without Ray: what the proof says of each.

    python -m tests.swaps DTYPE ROUNDS FIRST SECOND [OTHERS …]

Loads FIRST, then in each round SECOND and every other checkpoint rightly, and SECOND wrongly in
every way of `broken_swap.FAULTS`, coming from FIRST. Prints a JSON object: problems of right swaps
by checkpoint, the wrong swaps that were accepted, counts, and seconds.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from statistics import median
from typing import Any

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
    "TORCHDYNAMO_DISABLE": "1",
}


def swaps(worker: Any, rounds: int, first: str, rights: list[str]) -> dict[str, Any]:
    from safetensors.torch import load_file

    from forkdiv.sample import weight_proof
    from tests.sample.broken_swap import FAULTS

    runner = worker.model_runner
    files = Path(first).glob("*.safetensors")
    old = {name: tensor for file in files for name, tensor in load_file(file).items()}
    refused: dict[str, list[str]] = {}
    accepted, seconds = [], []
    right = wrong = 0
    for _ in range(rounds):
        for path in (*rights, first):
            proof = weight_proof.swap(runner, path)
            seconds.append(proof.load_s + proof.verify_s)
            right += 1
            if proof.problems or proof.not_finite:
                refused[path] = proof.problems + proof.not_finite
        for name, fault in FAULTS.items():
            fault(runner, rights[0], old)
            wrong += 1
            if not weight_proof.verify(runner, rights[0]).problems:
                accepted.append(name)
            weight_proof.load(runner, first)
    return {
        "right": right,
        "wrong": wrong,
        "refused": refused,
        "accepted": accepted,
        "seconds": median(seconds),
    }


def main() -> None:
    os.environ |= ENVIRONMENT
    dtype, rounds, first, *rights = sys.argv[1:]
    from vllm import LLM

    llm = LLM(
        model=first,
        dtype=dtype,
        enforce_eager=True,
        max_model_len=128,
        generation_config="vllm",
        enable_chunked_prefill=False,
    )
    (found,) = llm.collective_rpc(swaps, args=(int(rounds), first, rights))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
