"""vLLM asked directly, in a process of its own: what people do without a warm engine.

    python -m tests.bench.offline REQUEST.json ANSWER.json

The answer has the seconds from the start of the process to the first sample, and those
and the tokens of every round after it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


def run(
    folder: Path,
    model: Path,
    prompts: Sequence[Sequence[int]],
    n: int,
    rounds: int,
    max_tokens: int = 16,
    whole: bool = False,
) -> dict[str, Any]:
    """Sample `prompts` (token ids) `rounds` times in a fresh process. `whole` responses do not
    end before `max_tokens`."""
    request = folder / "offline.json"
    asked = {"model": str(model), "prompts": [list(one) for one in prompts], "n": n}
    request.write_text(
        json.dumps(asked | {"rounds": rounds, "max_tokens": max_tokens, "whole": whole})
    )
    answer = folder / "answer.json"
    command = [sys.executable, "-m", "tests.bench.offline", str(request), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(
            f"vLLM asked directly ended with {done.returncode}: {done.stderr[-4000:]}"
        )
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def main(request: Path, answer: Path) -> None:
    import os

    from forkdiv.config import EngineConfig
    from forkdiv.engine_settings import EngineSpec, engine_arguments, environment

    asked = json.loads(request.read_text())
    spec = EngineSpec(Path(asked["model"]), "float32", "cpu", EngineConfig(), ())
    os.environ |= environment(spec)
    from vllm import LLM, SamplingParams

    llm = LLM(**engine_arguments(spec))
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]

    def parameters(number: int, n: int) -> SamplingParams:
        return SamplingParams(
            n=n,
            seed=4096 * number,
            temperature=1.0,
            max_tokens=asked["max_tokens"],
            min_tokens=asked["max_tokens"] if asked["whole"] else 0,
            detokenize=False,
        )

    llm.generate(prompts[:1], parameters(0, 1), use_tqdm=False)
    out: dict[str, Any] = {"first_s": time.perf_counter() - STARTED, "rounds": []}
    for _ in range(asked["rounds"]):
        started = time.perf_counter()
        wanted = [parameters(i, asked["n"]) for i in range(len(prompts))]
        answers = llm.generate(prompts, wanted, use_tqdm=False)
        tokens = sum(len(one.token_ids) for answer in answers for one in answer.outputs)
        out["rounds"].append({"seconds": time.perf_counter() - started, "tokens": tokens})
    answer.write_text(json.dumps(out))  # vLLM has the last word on the terminal


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
